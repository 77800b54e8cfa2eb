"""Checker: no attempt is acknowledged, the repeat of an earlier one included, before the batch is durable.

Of an idempotent batch that is sent twice the second may only be answered once the first is safe: a client that hears
"duplicate" stops sending.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from benchmarks.verify.history import Anomaly, History, Outcome, Partition
from benchmarks.verify.inside import Durable

NAME = "durable before ack"


def check(history: History, durable: Sequence[Durable]) -> list[Anomaly]:
    """`durable`: everything that became durable; one that did so again, after a restart, counts from its first time."""
    spans: dict[Partition, list[Durable]] = defaultdict(list)
    for each in durable:
        spans[each.partition].append(each)
    anomalies = []
    for partition in history.partitions():
        index = _FirstTimes(spans[partition])
        for produce in history.produces(partition):
            if produce.outcome is not Outcome.OK or produce.base_offset is None or produce.ended_s is None:
                continue
            since_s = index.since_s(produce.base_offset, produce.base_offset + len(produce.values))
            if since_s is None:
                text = (
                    f"produce {produce.number} was acknowledged at offset {produce.base_offset} and was never durable"
                )
            elif since_s > produce.ended_s:
                text = (
                    f"produce {produce.number} was acknowledged at {produce.ended_s:.6f} s, "
                    f"but was durable only at {since_s:.6f} s"
                )
            else:
                continue
            anomalies.append(Anomaly(NAME, partition, text))
        anomalies += [Anomaly(NAME, partition, text) for text in _reads(history, partition, index)]
    return anomalies


def _reads(history: History, partition: Partition, index: _FirstTimes) -> list[str]:
    """What is shown to a reader must be durable too; the last record of a read tells, a log is durable in order."""
    texts = []
    for read in history.reads(partition):
        if not read.records or read.ended_s is None:
            continue
        last = read.records[-1][0]
        since_s = index.since_s(last, last + 1)
        if since_s is None or since_s > read.ended_s:
            texts.append(f"read {read.number} showed offset {last} at {read.ended_s:.6f} s, durable since {since_s}")
    return texts


class _FirstTimes:
    """When each offset was first durable: nothing that was durable once is ever lost or becomes another record."""

    def __init__(self, spans: Sequence[Durable]) -> None:
        self._exact: dict[tuple[int, int], float] = {}
        for span in spans:
            key = (span.start, span.end)
            self._exact[key] = min(span.at_s, self._exact.get(key, span.at_s))
        self._sorted = sorted(spans, key=lambda span: span.start)
        self._starts = [span.start for span in self._sorted]
        self._longest = max((span.end - span.start for span in spans), default=0)

    def since_s(self, start: int, end: int) -> float | None:
        exact = self._exact.get((start, end))
        if exact is not None:
            return exact
        latest = None
        for offset in range(start, end):
            first = self._covering(offset)
            if first is None:
                return None
            latest = first if latest is None else max(latest, first)
        return latest

    def _covering(self, offset: int) -> float | None:
        place = bisect_right(self._starts, offset) - 1
        found = None
        while place >= 0 and self._starts[place] > offset - self._longest:
            span = self._sorted[place]
            if span.end > offset:
                found = span.at_s if found is None else min(found, span.at_s)
            place -= 1
        return found
