"""Checker: once the deletion of a topic was acknowledged, nothing is written to it or read from it any more."""

from __future__ import annotations

from benchmarks.verify.history import Anomaly, Delete, History, Outcome, Partition, Produce, Read

NAME = "deleted topics"


def check(history: History) -> list[Anomaly]:
    gone: dict[Partition, Delete] = {}
    for each in history.operations:
        if isinstance(each, Delete) and each.outcome is Outcome.OK:
            gone.setdefault(each.partition, each)
    anomalies = []
    for each in history.operations:
        deleted = gone.get(each.partition)
        if deleted is None or not isinstance(each, Produce | Read) or each.outcome is not Outcome.OK:
            continue
        if deleted.before(each):
            what = "was acknowledged" if isinstance(each, Produce) else "was answered"
            text = f"operation {each.number} {what} after the deletion {deleted.number} of its topic"
            anomalies.append(Anomaly(NAME, each.partition, text))
    return anomalies
