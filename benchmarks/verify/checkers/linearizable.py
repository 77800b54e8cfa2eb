"""Checker: the history of each partition is linearizable as a log: append at the end, read at an offset.

A log shows its own order: the offset of a batch is its place. So a history is linearizable if the places agree with
real time: a batch that was there when another one was sent has the lower offset; nothing is read before it was sent;
and a reader that began after a batch was known to be there is not told that the log ends below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.verify.history import Anomaly, History, Outcome, Partition, Produce

NAME = "linearizable"


def check(history: History) -> list[Anomaly]:
    anomalies: list[Anomaly] = []
    for partition in history.partitions():
        texts = [*_appends_in_time_order(history, partition), *_nothing_from_the_future(history, partition)]
        anomalies.extend(Anomaly(NAME, partition, text) for text in texts)
    return anomalies


def _appends_in_time_order(history: History, partition: Partition) -> list[str]:
    """(known to be there from `ended` on, offset) against (cannot have been there before `invoked`, offset)."""
    acked = [
        each for each in history.produces(partition) if each.outcome is Outcome.OK and each.base_offset is not None
    ]
    first = _first_attempts(history.produces(partition))
    sights = [(each.ended_s, each.base_offset or 0) for each in acked if each.ended_s is not None]
    sights += [
        (read.ended_s, read.records[-1][0]) for read in history.reads(partition) if read.records and read.ended_s
    ]
    sights.sort()
    texts, position, highest = [], 0, -1
    for produce in sorted(acked, key=lambda each: first[each.values]):
        invoked_s = first[produce.values]  # a repeat is answered with the place of the first attempt
        while position < len(sights) and sights[position][0] < invoked_s:
            highest = max(highest, sights[position][1])
            position += 1
        if (produce.base_offset or 0) <= highest:
            texts.append(
                f"produce {produce.number} got offset {produce.base_offset} although offset {highest} was there before "
                "it was sent"
            )
    return texts


def _first_attempts(attempts: Iterable[Produce]) -> dict[tuple[bytes, ...], float]:
    first: dict[tuple[bytes, ...], float] = {}
    for each in attempts:
        first[each.values] = min(each.invoked_s, first.get(each.values, each.invoked_s))
    return first


def _nothing_from_the_future(history: History, partition: Partition) -> Sequence[str]:
    sent: dict[bytes, float] = {}
    for produce in history.produces(partition):
        for value in produce.values:
            sent[value] = min(produce.invoked_s, sent.get(value, produce.invoked_s))
    texts = []
    for read in history.reads(partition):
        for offset, value in read.records:
            if read.ended_s is not None and sent.get(value, 0.0) > read.ended_s:
                texts.append(f"read {read.number} returned offset {offset} before its record was sent")
    return texts
