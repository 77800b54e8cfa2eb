"""Checker: after all faults have ended, everything works again within a given time.

No request that begins after the time to recover may end in anything but success, or wait for long. Members of groups
may be refused, as they are while a group rebalances, but not left without an answer.
"""

from __future__ import annotations

from benchmarks.verify.history import Anomaly, GroupOperation, History, Operation, Outcome, Produce, Read

NAME = "liveness"


def check(history: History, healed_s: float, recover_s: float, answer_s: float) -> list[Anomaly]:
    """`recover_s`: time to recover after `healed_s`; `answer_s`: the longest that a request may take from then on.
    Produces without acknowledgement never end and are left out, and so is what was sent to a deleted topic."""
    anomalies = []
    for each in history.operations:
        if each.invoked_s < healed_s + recover_s or history.deleted(each.partition):
            continue
        if isinstance(each, Produce) and each.ended_s is None and each.producer_id is None:
            continue
        problem = _problem(each, answer_s)
        if problem:
            text = f"{type(each).__name__.lower()} {each.number} of {each.client} {problem}"
            anomalies.append(Anomaly(NAME, each.partition, text))
    return anomalies


def _problem(operation: Operation, answer_s: float) -> str:
    if operation.ended_s is None:
        return "never ended"
    if operation.ended_s - operation.invoked_s > answer_s:
        return f"took {operation.ended_s - operation.invoked_s:.1f} s"
    if isinstance(operation, GroupOperation) and operation.outcome is Outcome.FAIL:
        return ""
    if isinstance(operation, Read) and "OFFSET_OUT_OF_RANGE" in operation.note:
        return ""  # retention overtook the reader: that is an answer
    if operation.outcome is not Outcome.OK:
        return f"was {operation.outcome.value}: {operation.note}"
    return ""
