"""Checker: in one generation of a group each partition has one owner, and nobody else commits it.

A static member that comes back under a new member id takes its place over within the generation: the owner is the
instance, and what its former member id asks for after that must be refused.
"""

from __future__ import annotations

from benchmarks.verify.history import Anomaly, Assigned, GroupOperation, History, OffsetCommit, Outcome, Partition

NAME = "group owners"


def check(history: History) -> list[Anomaly]:
    owners: dict[tuple[str, int, Partition], Assigned] = {}
    anomalies = []
    assigned = [each for each in history.operations if isinstance(each, Assigned) and each.outcome is Outcome.OK]
    for each in assigned:
        owner = owners.setdefault((each.group, each.generation, each.partition), each)
        if _identity(owner) != _identity(each):
            text = f"group {each.group}, generation {each.generation}: owned by {owner.member} and by {each.member}"
            anomalies.append(Anomaly(NAME, each.partition, text))
    for commit in history.operations:
        if not isinstance(commit, OffsetCommit) or commit.outcome is not Outcome.OK or commit.generation < 0:
            continue
        holder = owners.get((commit.group, commit.generation, commit.partition))
        if holder is not None and _identity(holder) != _identity(commit):
            what = f"{commit.member} committed what {holder.member} owns, operation {commit.number}"
        elif replaced := _replacement(commit, assigned):
            what = f"{commit.member} committed after {replaced} had taken its place, operation {commit.number}"
        else:
            continue
        text = f"group {commit.group}, generation {commit.generation}: {what}"
        anomalies.append(Anomaly(NAME, commit.partition, text))
    return anomalies


def _identity(operation: GroupOperation) -> str:
    return operation.instance or operation.member


def _replacement(commit: OffsetCommit, assigned: list[Assigned]) -> str:
    """The member id that had taken the place of a static member before it committed; empty for none."""
    if not commit.instance:
        return ""
    served = [each for each in assigned if each.group == commit.group and each.instance == commit.instance]
    own = max((each.number for each in served if each.member == commit.member), default=-1)
    return next((each.member for each in served if each.number > own and each.before(commit)), "")
