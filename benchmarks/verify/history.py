"""The history of a run: what each client asked, when, and what it was told.

Every operation is invoked once and ends at most once: ok (with a result), fail (surely not applied) or unknown (maybe
applied; also what never ended). Times are virtual seconds. Checkers read it and nothing else, so hand-made histories
test them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


class Outcome(enum.Enum):
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, order=True)
class Partition:
    topic: str
    index: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.index}"


@dataclass(kw_only=True)
class Operation:
    """Base of all operations. `number` is the place in the history."""

    client: str
    partition: Partition
    number: int = -1
    invoked_s: float = 0.0
    ended_s: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    note: str = ""

    def before(self, other: Operation) -> bool:
        """It had ended when `other` began: what it saw, `other` must see."""
        return self.ended_s is not None and self.ended_s < other.invoked_s


@dataclass(kw_only=True)
class Produce(Operation):
    """One attempt to append a batch of records with these values, which are unique to the batch.

    With `producer_id` it is one attempt of an idempotent producer at `base_sequence`; further attempts of the same
    batch are operations of their own with the same values.
    """

    values: tuple[bytes, ...]
    producer_id: int | None = None
    producer_epoch: int = -1
    base_sequence: int = -1
    base_offset: int | None = None  # when OK


@dataclass(kw_only=True)
class Read(Operation):
    """One fetch answer. `final`: it is part of the read of everything after the world was healed."""

    offset: int
    final: bool = False
    records: tuple[tuple[int, bytes], ...] = ()  # (offset, value), from `offset` on
    high_watermark: int = -1
    log_start: int = -1


@dataclass(kw_only=True)
class Bounds(Operation):
    """One ListOffsets answer: earliest (`log_start`) or latest (`high_watermark`), the other one is -1."""

    high_watermark: int = -1
    log_start: int = -1


@dataclass(kw_only=True)
class Delete(Operation):
    """The deletion of the topic that `partition` is of; one operation per partition. Where topics of one name come and
    go, the name in `partition` has to tell them apart, by the topic id."""


@dataclass(kw_only=True)
class GroupOperation(Operation):
    """Base of what members of consumer groups do with one partition. `member` is the id that the coordinator gave,
    `instance` the name of a static member."""

    group: str
    generation: int = -1
    member: str = ""
    instance: str = ""


@dataclass(kw_only=True)
class Assigned(GroupOperation):
    """SyncGroup: when OK, `partition` belongs to this member in this generation."""


@dataclass(kw_only=True)
class OffsetCommit(GroupOperation):
    """One OffsetCommit by the owner of the partition. Owners go on from what was committed: offsets only rise."""

    offset: int


@dataclass(kw_only=True)
class OffsetRead(GroupOperation):
    """One OffsetFetch; `offset` when OK, -1 for none committed."""

    offset: int = -1


@dataclass
class History:
    operations: list[Operation] = field(default_factory=list)
    _by_partition: dict[Partition, list[Operation]] = field(default_factory=dict, repr=False, compare=False)
    _indexed: int = field(default=0, repr=False, compare=False)

    def invoke(self, operation: Operation, now_s: float) -> None:
        operation.number = len(self.operations)
        operation.invoked_s = now_s
        self.operations.append(operation)

    @staticmethod
    def end(operation: Operation, outcome: Outcome, now_s: float, note: str = "") -> None:
        if operation.ended_s is not None:
            raise ValueError(f"operation {operation.number} ended twice")
        operation.outcome, operation.ended_s, operation.note = outcome, now_s, note

    def partitions(self) -> Sequence[Partition]:
        self._index()
        return sorted(self._by_partition)

    def of(self, partition: Partition) -> Sequence[Operation]:
        """All operations on one partition, in order."""
        self._index()
        return self._by_partition.get(partition, ())

    def _index(self) -> None:
        """Take in what was added to `operations` since the last time."""
        for operation in self.operations[self._indexed :]:
            self._by_partition.setdefault(operation.partition, []).append(operation)
        self._indexed = len(self.operations)

    def produces(self, partition: Partition) -> Iterator[Produce]:
        return (each for each in self.of(partition) if isinstance(each, Produce))

    def reads(self, partition: Partition) -> Iterator[Read]:
        """Answered reads only."""
        return (each for each in self.of(partition) if isinstance(each, Read) and each.outcome is Outcome.OK)

    def bounds(self, partition: Partition) -> Iterator[Bounds]:
        return (each for each in self.of(partition) if isinstance(each, Bounds) and each.outcome is Outcome.OK)

    def deleted(self, partition: Partition) -> bool:
        """Whether the topic of this partition was, or may have been, deleted."""
        return any(isinstance(each, Delete) and each.outcome is not Outcome.FAIL for each in self.of(partition))


@dataclass(frozen=True)
class Anomaly:
    """One finding of a checker."""

    checker: str
    partition: Partition
    text: str

    def __str__(self) -> str:
        return f"{self.checker}: {self.partition}: {self.text}"
