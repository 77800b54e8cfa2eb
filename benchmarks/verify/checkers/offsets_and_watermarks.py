"""Checker: offsets are gapless and rise; watermarks are ordered and never go back; an ack is visible at once.

Holds for partitions without compaction and without transactions: there every offset below the high watermark holds a
record. "Never back" compares only operations of which one had ended when the other began.
"""

from __future__ import annotations

from benchmarks.verify.history import Anomaly, Bounds, History, Outcome, Partition, Read

NAME = "offsets and watermarks"


def check(history: History) -> list[Anomaly]:
    anomalies: list[Anomaly] = []
    for partition in history.partitions():
        texts = [
            *_each_read(history, partition),
            *_acks_do_not_overlap(history, partition),
            *_never_back(history, partition),
        ]
        anomalies.extend(Anomaly(NAME, partition, text) for text in texts)
    return anomalies


def _each_read(history: History, partition: Partition) -> list[str]:
    texts = []
    for read in history.reads(partition):
        expected = read.offset
        for offset, _ in read.records:
            if offset != expected:
                texts.append(
                    f"read {read.number} from {read.offset} returned offset {offset} where {expected} comes next"
                )
                break
            expected += 1
        if read.high_watermark < 0:
            continue  # -1: the client library did not tell
        if expected > read.high_watermark:
            texts.append(f"read {read.number} returned up to {expected}, past its high watermark {read.high_watermark}")
        if read.log_start > read.high_watermark:
            texts.append(f"read {read.number}: log start {read.log_start} above high watermark {read.high_watermark}")
    return texts


def _acks_do_not_overlap(history: History, partition: Partition) -> list[str]:
    # Attempts of one idempotent batch may all be acknowledged with the same offsets; anything else may not.
    taken: dict[int, tuple[bytes, ...]] = {}
    texts = []
    for produce in history.produces(partition):
        if produce.outcome is not Outcome.OK:
            continue
        if produce.base_offset is None or produce.base_offset < 0:
            texts.append(f"produce {produce.number} was acknowledged with offset {produce.base_offset}")
            continue
        for offset in range(produce.base_offset, produce.base_offset + len(produce.values)):
            if taken.setdefault(offset, produce.values) != produce.values:
                texts.append(f"offset {offset} was acknowledged for two batches")
                break
    return texts


def _never_back(history: History, partition: Partition) -> list[str]:
    """Sweep over time: what had ended by then is a lower bound for what begins."""
    looks: list[Read | Bounds] = [*history.reads(partition), *history.bounds(partition)]
    acks = [
        (each.ended_s, each.base_offset + len(each.values), -1)
        for each in history.produces(partition)
        if each.outcome is Outcome.OK and each.ended_s is not None and each.base_offset is not None
    ]
    sights = [(each.ended_s, each.high_watermark, each.log_start) for each in looks if each.ended_s is not None]
    seen = sorted([*acks, *sights])  # (ended, least high watermark, least log start)
    looks.sort(key=lambda look: (look.invoked_s, look.number))
    texts, position, high, start = [], 0, -1, -1
    for look in looks:
        while position < len(seen) and seen[position][0] < look.invoked_s:
            high = max(high, seen[position][1])
            start = max(start, seen[position][2])
            position += 1
        if -1 < look.high_watermark < high:
            texts.append(f"operation {look.number} saw high watermark {look.high_watermark} after {high} was seen")
        if -1 < look.log_start < start:
            texts.append(f"operation {look.number} saw log start {look.log_start} after {start} was seen")
    return texts
