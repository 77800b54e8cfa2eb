"""Checker: once an epoch has been followed by a higher one, nothing is granted under it any more.

From the history: acknowledgements under producer epochs, commits and heartbeats under generations of a group. From
inside: every grant that names its epoch, such as commits of a broker epoch to the metadata.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from benchmarks.verify.history import Anomaly, Assigned, History, OffsetCommit, Outcome, Partition, Produce
from benchmarks.verify.inside import EpochUse

NAME = "fenced epochs"


def check(history: History, uses: Sequence[EpochUse] = ()) -> list[Anomaly]:
    """Anomalies carry the resource as their topic: it need not be a partition."""
    by_resource: dict[str, list[EpochUse]] = defaultdict(list)
    for use in [*_uses_in(history), *uses]:
        by_resource[use.resource].append(use)
    anomalies = []
    for resource in sorted(by_resource):
        anomalies += [Anomaly(NAME, Partition(resource, 0), text) for text in _late_uses(by_resource[resource])]
    return anomalies


def _uses_in(history: History) -> list[EpochUse]:
    uses = []
    for each in history.operations:
        if each.outcome is not Outcome.OK or each.ended_s is None:
            continue
        if isinstance(each, Produce) and each.producer_id is not None:
            resource = f"producer {each.producer_id} in {each.partition}"
            uses.append(EpochUse(resource, each.producer_epoch, each.invoked_s, each.ended_s))
        elif isinstance(each, OffsetCommit | Assigned) and each.generation >= 0:
            uses.append(EpochUse(f"group {each.group}", each.generation, each.invoked_s, each.ended_s))
    return uses


def _late_uses(uses: Sequence[EpochUse]) -> list[str]:
    """Sweep over time: the highest epoch whose use had ended when another use began."""
    ended = sorted(uses, key=lambda use: use.ended_s)
    texts, position, newest = [], 0, -1
    for use in sorted(uses, key=lambda use: use.invoked_s):
        while position < len(ended) and ended[position].ended_s < use.invoked_s:
            newest = max(newest, ended[position].epoch)
            position += 1
        if use.epoch < newest:
            texts.append(f"epoch {use.epoch} was granted something at {use.ended_s:.3f} s, after epoch {newest} was")
    return texts
