"""One pass over the partitions of a fetch: who has data in memory, who has an error, who must ask the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.fetching.standing import FetchPartition
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.partitions.log import PartitionLog
    from broker.partitions.registry import Partitions
    from broker.partitions.topic_logs import TopicLogs


class PartitionAnswer:
    """What one partition is answered with. `quiet`: there is no data for it before its log moves."""

    __slots__ = ("diverging", "error", "high_watermark", "log", "partition", "quiet", "records", "size", "start_offset")

    def __init__(self, partition: FetchPartition, log: PartitionLog | None, error: ErrorCode = ErrorCode.NONE) -> None:
        self.partition = partition
        self.log = log
        self.error = error
        self.records: Sequence[memoryview] = ()
        self.size = 0
        self.quiet = False
        self.diverging: tuple[int, int] | None = None
        if log is not None:
            stream = log.stream
            self.high_watermark = stream.durable_end
            self.start_offset = stream.start_offset
        else:
            self.high_watermark = self.start_offset = -1

    def take(self, records: Sequence[memoryview], limit: int, at_least_one: bool) -> int:
        """Keep whole batches up to `limit` bytes (the first whatever its size if `at_least_one`); the bytes kept."""
        size = 0
        kept = 0
        for batch in records:
            length = len(batch)
            if size + length > limit and not (at_least_one and kept == 0):
                break
            size += length
            kept += 1
        self.records = records if kept == len(records) else records[:kept]
        self.size = size
        return size


class Pass:
    """The outcome of one look at all partitions. `cold`: answers whose data is not in memory."""

    __slots__ = ("answers", "cold", "errors", "size")

    def __init__(self) -> None:
        self.answers: list[PartitionAnswer] = []
        self.cold: list[PartitionAnswer] = []
        self.errors = False
        self.size = 0


def look(
    registry: Partitions,
    partitions: Sequence[FetchPartition],
    *,
    by_id: bool,
    max_bytes: int,
    epochs_needed: list[PartitionLog],
) -> Pass:
    """Read what memory holds, in the order given, up to `max_bytes`. Logs whose epoch history is needed but not loaded
    are put on `epochs_needed` and answered empty."""
    topics = registry.by_key
    outcome = Pass()
    answers = outcome.answers
    left = max_bytes
    key: str | bytes | None = None
    topic: TopicLogs | None = None
    for partition in partitions:
        if partition.topic != key:
            key = partition.topic
            topic = topics.get(key)
        index = partition.index
        log = topic.logs[index] if topic is not None and 0 <= index < len(topic.logs) else None
        if log is None:
            unknown_id = by_id and topic is None
            error = ErrorCode.UNKNOWN_TOPIC_ID if unknown_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            answers.append(PartitionAnswer(partition, None, error))
            outcome.errors = True
            continue
        answer = PartitionAnswer(partition, log)
        answers.append(answer)
        offset = partition.fetch_offset
        stream = log.stream
        caught_up = offset == stream.durable_end == stream.next_offset
        if caught_up and partition.last_fetched_epoch < 0 and partition.current_leader_epoch in (-1, stream.epoch):
            answer.quiet = True  # the rules below have nothing to say to it
            continue
        if not _may_read(answer, log, partition, epochs_needed):
            outcome.errors |= bool(answer.error) or answer.diverging is not None
            continue
        if offset >= stream.durable_end:
            answer.quiet = True
            continue
        if left <= 0 and outcome.size:
            continue
        limit = min(left, partition.max_bytes)
        records = stream.read_hot(offset, max(limit, 1), stream.durable_end)
        if records is None:
            outcome.cold.append(answer)
            continue
        taken = answer.take(records, limit, at_least_one=outcome.size == 0)
        outcome.size += taken
        left -= taken
    return outcome


def _may_read(
    answer: PartitionAnswer, log: PartitionLog, partition: FetchPartition, epochs_needed: list[PartitionLog]
) -> bool:
    """Epoch and range rules; sets the answer's error."""
    wanted = partition.current_leader_epoch
    if wanted >= 0 and wanted != log.leader_epoch:
        older = wanted < log.leader_epoch
        answer.error = ErrorCode.FENCED_LEADER_EPOCH if older else ErrorCode.UNKNOWN_LEADER_EPOCH
        return False
    if partition.last_fetched_epoch >= 0:
        if log.epochs is None:
            epochs_needed.append(log)
            return False
        epoch, end = log.end_offset_for_epoch(log.epochs, partition.last_fetched_epoch)
        if epoch < 0:
            answer.error = ErrorCode.OFFSET_OUT_OF_RANGE
            return False
        if epoch < partition.last_fetched_epoch or end < partition.fetch_offset:
            answer.diverging = (epoch, end)
            return False
    if not log.stream.start_offset <= partition.fetch_offset <= log.stream.next_offset:
        answer.error = ErrorCode.OFFSET_OUT_OF_RANGE
        return False
    return True
