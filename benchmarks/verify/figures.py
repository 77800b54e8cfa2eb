"""What a history says in numbers: fates of records, outages, reads, commits. Pure."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.verify.history import OffsetCommit, OffsetRead, Outcome, Partition, Produce, Read
from benchmarks.verify.stored import LOAD_ENDED, Run

OUTAGE_S = 1.0


@dataclass
class Fates:
    """Of sends: how many, and how they ended."""

    sent: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    unknown_found: int = 0  # of the unknown ones, those that are in the log

    def add(self, outcome: Outcome) -> None:
        self.sent += 1
        self.acked += outcome is Outcome.OK
        self.refused += outcome is Outcome.FAIL
        self.unknown += outcome is Outcome.UNKNOWN


@dataclass(frozen=True)
class Outage:
    """A time in the load without one acknowledgement in the whole cluster."""

    began_s: float
    ended_s: float

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s


@dataclass
class Figures:
    load_s: float = 0.0
    kinds: dict[str, Fates] = field(default_factory=dict)
    partitions: dict[Partition, Fates] = field(default_factory=dict)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)  # (refused | unknown, error)
    outages: list[Outage] = field(default_factory=list)
    longest_partition_s: float = 0.0
    longest_partition: Partition | None = None
    ack_ms: tuple[float, float, float] = (0.0, 0.0, 0.0)  # p50, p99, largest
    followed: int = 0  # records read while the load ran
    read_back: int = 0
    commits: int = 0
    commits_unknown: int = 0
    commits_read: int = 0

    @property
    def total(self) -> Fates:
        total = Fates()
        for each in self.kinds.values():
            total.sent += each.sent
            total.acked += each.acked
            total.refused += each.refused
            total.unknown += each.unknown
            total.unknown_found += each.unknown_found
        return total


def figures(run: Run) -> Figures:
    """Count. Of a run that broke off, the load ends with its last operation."""
    found = Figures()
    last_s = max((each.ended_s or each.invoked_s for each in run.history.operations), default=0.0)
    found.load_s = run.phases.get(LOAD_ENDED, last_s)
    acks: dict[Partition, list[float]] = defaultdict(list)
    latencies: list[float] = []
    at_the_end: set[bytes] = set()
    unsure: list[tuple[Fates, bytes]] = []
    for each in run.history.operations:
        if isinstance(each, Produce):
            fates = found.kinds.setdefault(each.client.partition("-")[0], Fates())
            for one in (fates, found.partitions.setdefault(each.partition, Fates())):
                one.add(each.outcome)
            if each.outcome is Outcome.OK and each.ended_s is not None:
                acks[each.partition].append(each.ended_s)
                latencies.append((each.ended_s - each.invoked_s) * 1000)
                continue
            found.errors["refused" if each.outcome is Outcome.FAIL else "unknown", each.note or "no answer"] += 1
            if each.outcome is Outcome.UNKNOWN:
                unsure.append((fates, each.values[0]))
        elif isinstance(each, Read):
            if each.final:
                found.read_back += len(each.records)
                at_the_end.update(value for _, value in each.records)
            else:
                found.followed += len(each.records)
        elif isinstance(each, OffsetCommit):
            found.commits += each.outcome is Outcome.OK
            found.commits_unknown += each.outcome is not Outcome.OK
        elif isinstance(each, OffsetRead):
            found.commits_read += each.outcome is Outcome.OK
    for fates, value in unsure:
        fates.unknown_found += value in at_the_end
    found.ack_ms = _quantiles(latencies)
    _unavailable(found, acks)
    return found


def _unavailable(found: Figures, acks: dict[Partition, list[float]]) -> None:
    """Times without an ack: of all partitions together, and the longest of any one."""
    for partition in sorted(found.partitions):
        for gap in _gaps(acks[partition], found.load_s):
            if gap.seconds > found.longest_partition_s:
                found.longest_partition_s, found.longest_partition = gap.seconds, partition
    every = sorted(at for ends in acks.values() for at in ends)
    found.outages = [gap for gap in _gaps(every, found.load_s) if gap.seconds >= OUTAGE_S]


def _gaps(acks: Sequence[float], load_s: float) -> list[Outage]:
    times = [0.0, *sorted(at for at in acks if at <= load_s), load_s]
    return [Outage(a, b) for a, b in itertools.pairwise(times)]


def _quantiles(values: list[float]) -> tuple[float, float, float]:
    if not values:
        return (0.0, 0.0, 0.0)
    values.sort()
    return values[len(values) // 2], values[min(len(values) - 1, len(values) * 99 // 100)], values[-1]
