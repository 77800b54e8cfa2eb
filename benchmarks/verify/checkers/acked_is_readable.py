"""Checker: what was acknowledged is readable at its offset, once; what was refused is not there.

Plain producers: each acknowledged attempt is at exactly its offsets; an attempt of unknown outcome may have added one
more copy. Idempotent producers: each batch at most once whatever was retried, once if acknowledged, and the batches of
one producer in the order of their sequences. Needs the final read of the whole partition; of a topic that was deleted
there is none, and only what was read in its life is held against what was acknowledged.
"""

from __future__ import annotations

from collections import defaultdict

from benchmarks.verify.history import Anomaly, History, Outcome, Partition, Produce

NAME = "acked is readable"


def check(history: History) -> list[Anomaly]:
    anomalies: list[Anomaly] = []
    for partition in history.partitions():
        found = _PartitionCheck(history, partition)
        found.run()
        anomalies.extend(Anomaly(NAME, partition, text) for text in found.texts)
    return anomalies


class _PartitionCheck:
    def __init__(self, history: History, partition: Partition) -> None:
        self.history = history
        self.partition = partition
        self.texts: list[str] = []
        self.log: dict[int, bytes] = {}  # the final read
        self.log_start = 0
        self.places: dict[bytes, list[int]] = defaultdict(list)

    def run(self) -> None:
        attempts = list(self.history.produces(self.partition))
        if self.history.deleted(self.partition):
            self._reads_agree()
            self._reads_agree_with_acks(attempts)
            return
        self._collect_final_read(attempts)
        self._reads_agree()
        batches: dict[tuple[bytes, ...], list[Produce]] = defaultdict(list)
        for attempt in attempts:
            batches[attempt.values].append(attempt)
        for values, tries in batches.items():
            self._check_batch(values, tries)
        self._check_order(batches)
        known = {value for values in batches for value in values}
        for value, offsets in self.places.items():
            if value not in known:
                self.texts.append(f"offset {offsets[0]} holds {_short(value)}, which nobody sent")

    def _collect_final_read(self, attempts: list[Produce]) -> None:
        finals = [read for read in self.history.reads(self.partition) if read.final]
        if not finals and any(each.outcome is Outcome.OK for each in attempts):
            self.texts.append("records were acknowledged but the partition was never read back")
        for read in finals:
            self.log_start = max(self.log_start, read.log_start)
            for offset, value in read.records:
                if offset not in self.log:
                    self.log[offset] = value
                    self.places[value].append(offset)

    def _reads_agree(self) -> None:
        seen: dict[int, bytes] = {}
        for read in self.history.reads(self.partition):
            for offset, value in read.records:
                if seen.setdefault(offset, value) != value:
                    self.texts.append(f"offset {offset} was {_short(seen[offset])}, then {_short(value)}")
                if read.final or offset < self.log_start or not self.log:
                    continue
                if offset not in self.log:
                    self.texts.append(f"offset {offset} was read as {_short(value)} and is gone at the end")

    def _reads_agree_with_acks(self, attempts: list[Produce]) -> None:
        promised = {
            (each.base_offset or 0) + place: value
            for each in attempts
            if each.outcome is Outcome.OK
            for place, value in enumerate(each.values)
        }
        sent = {value for each in attempts if each.outcome is not Outcome.FAIL for value in each.values}
        for read in self.history.reads(self.partition):
            for offset, value in read.records:
                if promised.get(offset, value) != value:
                    self.texts.append(
                        f"acknowledged {_short(promised[offset])} at offset {offset}, read as {_short(value)}"
                    )
                elif value not in sent:
                    self.texts.append(f"offset {offset} holds {_short(value)}, which nobody sent or which was refused")

    def _check_batch(self, values: tuple[bytes, ...], tries: list[Produce]) -> None:
        acked = [each for each in tries if each.outcome is Outcome.OK]
        for attempt in acked:
            for place, value in enumerate(values):
                offset = (attempt.base_offset or 0) + place
                if offset < self.log_start:
                    continue  # trimmed by retention
                if (held := self.log.get(offset)) != value:
                    what = "nothing" if held is None else _short(held)
                    self.texts.append(f"acknowledged {_short(value)} at offset {offset}, which holds {what}")
        acked_offsets = {each.base_offset for each in acked}
        if tries[0].producer_id is not None:
            if len(acked_offsets) > 1:
                self.texts.append(f"{_short(values[0])} was acknowledged at offsets {sorted(map(str, acked_offsets))}")
            allowed = 1 if acked or any(each.outcome is Outcome.UNKNOWN for each in tries) else 0
        else:
            if len(acked_offsets) < len(acked):
                self.texts.append(f"two attempts of {_short(values[0])} were acknowledged at one offset")
            allowed = sum(each.outcome is not Outcome.FAIL for each in tries)
        for value in values:
            copies = self.places.get(value, [])
            if len(copies) > allowed:
                self.texts.append(f"{_short(value)} is at offsets {copies}, expected at most {allowed} copies")
        if len({len(self.places.get(value, [])) for value in values}) > 1 and self.log_start == 0:
            self.texts.append(f"the batch of {_short(values[0])} is there in part")

    def _check_order(self, batches: dict[tuple[bytes, ...], list[Produce]]) -> None:
        producers: dict[tuple[int, int], list[tuple[int, bytes]]] = defaultdict(list)
        for values, tries in batches.items():
            for attempt in tries:
                if attempt.producer_id is not None:
                    key = (attempt.producer_id, attempt.producer_epoch)
                    producers[key].append((attempt.base_sequence, values[0]))
        for key, sent in producers.items():
            last = (-1, -1)
            for sequence, value in sorted(set(sent)):
                copies = self.places.get(value)
                if not copies:
                    continue
                if copies[0] <= last[1]:
                    self.texts.append(
                        f"producer {key}: sequence {sequence} is at offset {copies[0]}, "
                        f"before sequence {last[0]} at {last[1]}"
                    )
                last = (sequence, copies[0])


def _short(value: bytes) -> str:
    return repr(value[:40])
