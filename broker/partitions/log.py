"""`PartitionLog`: a Kafka partition's view of its stream. What a batch must be to get in, and who waits for it.

Everything that refuses a batch happens before its offset is assigned; after that the batch becomes durable or this
process never acknowledges anything again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from broker.partitions.producer_state import ProducerState, SentBatch
from broker.partitions.recompress import as_topic_codec
from protocol.errors import ErrorCode
from protocol.record_batch import (
    TRANSACTIONAL,
    InvalidBatch,
    assign,
    parse_batch_header,
    set_log_append_time,
    validate_produce_batch,
)
from protocol.record_codec import repair_max_timestamp
from s3stream.errors import Fenced, NotFound
from s3stream.ports import Clock

if TYPE_CHECKING:
    from broker.fetching.standing import FetchPartition
    from broker.partitions.topic_logs import TopicLogs
    from s3stream.stream import Stream

Done = Callable[[BaseException | None], None]
_NONE: Final = ErrorCode.NONE


class Watcher(Protocol):
    """Who wants to know when what a consumer was told of a log no longer holds."""

    def moved(self, partition: FetchPartition) -> None:
        """There is more to read, or the log is gone. Said once; who wants to hear of the next time watches again."""
        ...

    def start_moved(self, partition: FetchPartition) -> None:
        """The log begins later than before; nothing to be woken for. It is still watched."""
        ...


Appended: TypeAlias = tuple[ErrorCode, int, int, int, str | None, int]
"""Answer to one produced batch: (error, base offset or -1, append time in ms, log start offset, message, original end).
The append time is -1 for CreateTime topics, but for a duplicate the original's timestamp; the start offset is -1 where
Kafka leaves it out. Original end: where the original of a duplicate ends, up to which the log must be durable before
the answer; else -1. A plain tuple, since there is one for every batch."""


def refused(error: ErrorCode, message: str | None = None, start_offset: int = -1) -> Appended:
    """The answer to a batch that was not appended."""
    return error, -1, -1, start_offset, message, -1


class PartitionLog:
    """Owned by this broker at `stream.epoch` (= leader epoch). All methods run on the event loop and never wait."""

    __slots__ = ("clock", "epochs", "index", "producers", "stream", "topic", "watchers")

    def __init__(self, topic: TopicLogs, index: int, stream: Stream, clock: Clock) -> None:
        self.topic = topic
        self.index = index
        self.stream = stream
        self.clock = clock
        # A stream that never held a record has no producers to remember; any other is loaded at the first need.
        self.producers: ProducerState | None = ProducerState() if stream.next_offset == 0 else None
        self.watchers: dict[Watcher, FetchPartition] | None = None
        self.epochs: list[tuple[int, int]] | None = None

    # -- positions -------------------------------------------------------------------------------------------------

    @property
    def leader_epoch(self) -> int:
        return self.stream.epoch

    @property
    def log_start_offset(self) -> int:
        return self.stream.start_offset

    @property
    def high_watermark(self) -> int:
        return self.stream.durable_end

    @property
    def last_stable_offset(self) -> int:
        """No transactions are served yet, so nothing is unstable below the high watermark."""
        return self.stream.durable_end

    @property
    def log_end_offset(self) -> int:
        return self.stream.next_offset

    # -- produce ---------------------------------------------------------------------------------------------------

    def append(self, records: memoryview, done: Done | None, now_ms: int, zstd_allowed: bool = True) -> Appended:
        """One produced RecordBatch v2, writable, owned by the log from here on. `zstd_allowed`: Produce version 7 on.

        `done` is called once the batch is durable, unless it is refused or a duplicate: for that one the caller waits
        until the log is durable up to `original_end`. The caller has made sure of `engine.admit` and of `producers is
        not None`.
        """
        topic = self.topic
        stream = self.stream
        if stream.gone is not None:
            return refused(_gone(stream.gone), f"the log is no longer served here: {stream.gone}")
        try:
            header = validate_produce_batch(records, topic.max_batch_bytes, zstd_allowed)
            _, _, _, _, _, attributes, delta, base_timestamp, max_timestamp, producer_id, epoch, sequence, count = (
                header
            )
            if max_timestamp < base_timestamp or topic.recompresses:
                if max_timestamp < base_timestamp:  # unset
                    repair_max_timestamp(records)
                changed = parse_batch_header(records)
                if topic.recompresses:
                    records, changed = as_topic_codec(records, changed, topic.config, topic.max_batch_bytes)
                base_timestamp, max_timestamp = changed.base_timestamp, changed.max_timestamp
                delta, count = changed.last_offset_delta, changed.record_count
        except InvalidBatch as error:
            return refused(error.error_code, error.message, stream.start_offset if error.by_log else -1)
        producers = self.producers
        if producer_id >= 0:
            if attributes & TRANSACTIONAL:
                return refused(ErrorCode.INVALID_TXN_STATE, "transactions are not served")
            assert producers is not None
            verdict = producers.check(producer_id, epoch, sequence, delta)
            if verdict is not None:
                if isinstance(verdict, SentBatch):
                    original = verdict.base_offset, verdict.timestamp, stream.start_offset
                    return _NONE, *original, None, verdict.last_offset + 1
                return refused(verdict, self._sequence_message(producer_id, epoch, sequence), stream.start_offset)
        append_time_ms = -1
        if topic.log_append_time:
            append_time_ms = max_timestamp = now_ms
        elif max_timestamp != -1 and (
            max_timestamp - now_ms > topic.timestamp_after_max_ms
            or now_ms - base_timestamp > topic.timestamp_before_max_ms
        ):
            return self._refuse_timestamp(base_timestamp, max_timestamp, now_ms)
        base_offset = stream.next_offset
        assign(records, base_offset, stream.epoch)
        if append_time_ms >= 0:
            set_log_append_time(records, append_time_ms)
        stream.append(records, count, max_timestamp, done)
        if producers is not None and producer_id >= 0:
            producers.record(producer_id, epoch, sequence, delta, max_timestamp, base_offset)
        return _NONE, base_offset, append_time_ms, stream.start_offset, None, -1

    def append_internal(self, batch: memoryview, record_count: int, timestamp_ms: int, done: Done) -> int:
        """A batch that the broker itself made (internal topics); returns its base offset."""
        stream = self.stream
        base_offset = stream.next_offset
        assign(batch, base_offset, stream.epoch)
        stream.append(batch, record_count, timestamp_ms, done)
        return base_offset

    def _refuse_timestamp(self, oldest: int, newest: int, now_ms: int) -> Appended:
        """`message.timestamp.before.max.ms` and `.after.max.ms` (KIP-937), judged by the batch header."""
        topic = self.topic
        if newest - now_ms > topic.timestamp_after_max_ms:
            message = (
                f"timestamp {newest} is more than {topic.timestamp_after_max_ms} ms ahead of {now_ms}"
                " (message.timestamp.after.max.ms)"
            )
        else:
            message = (
                f"timestamp {oldest} is more than {topic.timestamp_before_max_ms} ms"
                f" before {now_ms} (message.timestamp.before.max.ms)"
            )
        return refused(ErrorCode.INVALID_TIMESTAMP, message, self.stream.start_offset)

    def _sequence_message(self, producer_id: int, epoch: int, sequence: int) -> str:
        assert self.producers is not None
        producer = self.producers.producers[producer_id]
        last = producer.batches[-1][1] if producer.batches else -1
        return (
            f"producer {producer_id} epoch {epoch} sequence {sequence}:"
            f" the log has epoch {producer.epoch} and last sequence {last}"
        )

    # -- who watches -----------------------------------------------------------------------------------------------

    def watch(self, watcher: Watcher, partition: FetchPartition) -> None:
        """Tell `watcher` of the next move, in the order in which they came. One partition for each watcher."""
        if self.watchers is None:
            self.watchers = {watcher: partition}
            self.stream.listener = self
        else:
            self.watchers[watcher] = partition

    def unwatch(self, watcher: Watcher, partition: FetchPartition) -> None:
        watchers = self.watchers
        if watchers is not None and watchers.get(watcher) is partition:
            del watchers[watcher]
            if not watchers:
                self.watchers = self.stream.listener = None

    def on_durable(self, stream: Stream) -> None:
        """The high watermark has moved (once per flush group)."""
        watchers = self.watchers
        if watchers is not None:
            self.watchers = self.stream.listener = None
            for watcher, partition in watchers.items():
                watcher.moved(partition)

    def on_trimmed(self, stream: Stream) -> None:
        """The start has moved."""
        if self.watchers is not None:
            for watcher, partition in self.watchers.items():
                watcher.start_moved(partition)

    def gone(self) -> None:
        """The partition was deleted or is no longer led here: whoever watches must look again."""
        self.on_durable(self.stream)

    # -- epochs ----------------------------------------------------------------------------------------------------

    def end_offset_for_epoch(self, history: list[tuple[int, int]], epoch: int) -> tuple[int, int]:
        """(epoch, end offset) of the newest epoch not above `epoch`; (-1, -1) when unknown.

        Source: LeaderEpochFileCache.endOffsetFor.
        """
        if epoch == self.leader_epoch:
            return epoch, self.stream.durable_end
        if epoch < 0:
            return -1, -1
        higher = next(((e, start) for e, start in history if e > epoch), None)
        if higher is None:
            return -1, -1
        floor = max((e for e, _ in history if e <= epoch), default=epoch)
        return floor, max(higher[1], self.stream.start_offset)


def _gone(reason: BaseException) -> ErrorCode:
    """What a producer is told of a log that ended here: deleted, led by somebody else, or without its engine."""
    if isinstance(reason, NotFound):
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if isinstance(reason, Fenced):
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    return ErrorCode.KAFKA_STORAGE_ERROR
