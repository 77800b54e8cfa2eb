"""Acknowledgements that came without an offset: librdkafka's implicit acks.

When a request of an idempotent producer got no answer in time and a later one was acknowledged, the first must be in
the log too; librdkafka then reports its records as delivered without knowing where (its pull request 2081). They are
promised like all others: here each gets the offset at which the final read found it, and one that was not found is a
violation.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.verify.history import Anomaly, History, Outcome, Partition, Produce, Read

NAME = "acked is readable"


def placed(history: History) -> tuple[History, list[Anomaly]]:
    """The history with these offsets filled in, and what could not be found, of unknown outcome in the result.

    Only of idempotent producers: to all others the broker tells the offset, and a missing one is its fault.
    """
    implicit = {each.number for each in history.operations if _is_implicit(each)}
    if not implicit:
        return history, []
    places: dict[tuple[Partition, bytes], int] = {}
    for each in history.operations:
        if isinstance(each, Read) and each.final:
            for offset, value in each.records:
                places.setdefault((each.partition, value), offset)
    result, lost = History(), []
    for each in history.operations:
        if each.number in implicit and isinstance(each, Produce):
            offset = places.get((each.partition, each.values[0]), -1)
            if offset < 0:
                lost.append(
                    Anomaly(NAME, each.partition, f"acknowledged {each.values[0][:40]!r} without an offset; it is gone")
                )
                result.operations.append(replace(each, outcome=Outcome.UNKNOWN))
            else:
                result.operations.append(replace(each, base_offset=offset))
        else:
            result.operations.append(each)
    return result, lost


def _is_implicit(operation: object) -> bool:
    return (
        isinstance(operation, Produce)
        and operation.outcome is Outcome.OK
        and operation.base_offset is None
        and operation.producer_id is not None
    )
