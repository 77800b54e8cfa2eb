"""What a consumer asks for again and again, and what of it still holds since it was last looked at.

A consumer that keeps up names (or has named, in a session) many partitions, and nearly all of them have nothing new
from one fetch to the next. So each is looked at once: one without data is *settled*, its log watched, and it is not
looked at again before the log says that it moved: more became durable, the start was moved, or the log is gone. Nothing
else can change the answer: the leader epoch is the log's own for life, its epoch history ends there, and no transaction
holds the last stable offset back (whatever comes to do so must say `moved`, too).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from broker.fetching.pass_over import PartitionAnswer
    from broker.partitions.log import PartitionLog
    from protocol.fetch import ResponsePartition, ResponseTopic

NO_SESSION = 0


class FetchPartition:
    """One partition of a fetch as the consumer last described it, and what it was last told."""

    __slots__ = (
        "current_leader_epoch",
        "fetch_offset",
        "index",
        "last_fetched_epoch",
        "log",
        "max_bytes",
        "reply",
        "row",
        "settled",
        "told_high_watermark",
        "told_start_offset",
        "topic",
    )

    def __init__(
        self,
        topic: str | bytes,
        index: int,
        current_leader_epoch: int,
        fetch_offset: int,
        last_fetched_epoch: int,
        max_bytes: int,
        row: bytes = b"",
    ) -> None:
        self.topic = topic
        self.index = index
        self.current_leader_epoch = current_leader_epoch
        self.fetch_offset = fetch_offset
        self.last_fetched_epoch = last_fetched_epoch
        self.max_bytes = max_bytes
        self.settled = False
        self.log: PartitionLog | None = None
        """The log that was last watched for it."""
        # Of a fetch without a session: what it was asked for with, and what is answered.
        self.row = row
        self.reply: ResponsePartition | bytes = b""
        # Of a session.
        self.told_high_watermark = -1
        self.told_start_offset = -1


class Waiting(Protocol):
    """A fetch that waits for data."""

    def wake(self) -> None:
        """Called within an ack: look again before the next turn of the loop is over."""
        ...

    def answer_now(self) -> None:
        """What there is must do."""
        ...


class StandingFetch(ABC):
    """The partitions of one consumer; watches the logs of those that are settled or waited for."""

    __slots__ = ("closed", "waiting")

    def __init__(self) -> None:
        self.waiting: Waiting | None = None
        self.closed = False

    @property
    def session_id(self) -> int:
        return NO_SESSION

    @abstractmethod
    def to_look_at(self, *, incremental: bool) -> Sequence[FetchPartition]:
        """What is not settled, in the order in which it is to be served; everything if a session is not
        `incremental`."""

    @abstractmethod
    def settle(self, answer: PartitionAnswer) -> None:
        """There is no data for this one."""

    @abstractmethod
    def answer(
        self, answers: Sequence[PartitionAnswer], version: int, *, incremental: bool, read_committed: bool
    ) -> list[ResponseTopic]:
        """What the response says, given the answers of the last look."""

    def wait(self, waiting: Waiting) -> None:
        """A fetch waits from now on. The one before it on another connection, if any, is answered."""
        if self.waiting is not None:
            self.waiting.answer_now()
        self.waiting = waiting

    def watch(self, partition: FetchPartition, log: PartitionLog) -> None:
        """Hear of the next move of `log`."""
        if not self.closed:
            partition.log = log
            log.watch(self, partition)

    def unwatch(self, partition: FetchPartition) -> None:
        partition.settled = False
        if partition.log is not None:
            partition.log.unwatch(self, partition)
            partition.log = None

    def moved(self, partition: FetchPartition) -> None:
        self.start_moved(partition)
        if self.waiting is not None:
            self.waiting.wake()

    def start_moved(self, partition: FetchPartition) -> None:
        partition.settled = False

    def close(self) -> None:
        """Nobody asks any more: no log is watched from here on."""
        self.closed = True
        if self.waiting is not None:
            self.waiting.answer_now()


def response_row(answer: PartitionAnswer, *, read_committed: bool) -> ResponsePartition:
    """In the shape of `encode_fetch_response`."""
    high_watermark = answer.high_watermark
    start_offset = answer.start_offset
    aborted: tuple[()] | None = () if read_committed or answer.log is None else None
    if answer.error:
        high_watermark = start_offset = -1
        aborted = None if answer.log is not None else ()
    return (
        answer.partition.index,
        answer.error,
        high_watermark,
        high_watermark,
        start_offset,
        aborted,
        -1,
        answer.records,
        answer.diverging,
        None,
    )
