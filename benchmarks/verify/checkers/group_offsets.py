"""Checker: the committed offset of a group never goes back, and an acknowledged commit is seen by whoever asks later.

Holds for owners that go on from the committed offset and commit only what they got beyond it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from benchmarks.verify.history import Anomaly, History, OffsetCommit, OffsetRead, Outcome, Partition

NAME = "group offsets"


def check(history: History) -> list[Anomaly]:
    seen: dict[tuple[str, Partition], list[OffsetCommit | OffsetRead]] = defaultdict(list)
    for each in history.operations:
        if isinstance(each, OffsetCommit | OffsetRead) and each.outcome is Outcome.OK:
            seen[each.group, each.partition].append(each)
    anomalies = []
    for (group, partition), operations in sorted(seen.items(), key=lambda item: item[0]):
        anomalies += [Anomaly(NAME, partition, f"group {group}: {text}") for text in _backward(operations)]
    return anomalies


def _backward(operations: Sequence[OffsetCommit | OffsetRead]) -> list[str]:
    ended = sorted(operations, key=lambda each: each.ended_s or 0.0)
    texts, position, least, witness = [], 0, -1, -1
    for each in sorted(operations, key=lambda each: each.invoked_s):
        while position < len(ended) and ended[position].before(each):
            if ended[position].offset > least:
                least, witness = ended[position].offset, ended[position].number
            position += 1
        if each.offset < least:
            what = "committed" if isinstance(each, OffsetCommit) else "found"
            texts.append(f"operation {each.number} {what} {each.offset} after operation {witness} had seen {least}")
    return texts
