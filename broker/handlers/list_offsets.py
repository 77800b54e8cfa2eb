"""ListOffsets (key 2), versions 1 to 11.

Behaviour: latest (-1; the last stable offset for read_committed), earliest (-2), max timestamp (-3, KIP-734), earliest
local (-4, KIP-405), latest tiered (-5, KIP-1005), earliest pending upload (-6, KIP-1023), and by time: the first record
at or after the timestamp. Leader epochs are checked and given (KIP-320).
Here every log is tiered: "tiered" is what has been committed to objects; "local" is the un-uploaded tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.partitions.loading import epoch_history
from broker.partitions.log import PartitionLog
from broker.request import Request
from broker.services import Services
from protocol.errors import ErrorCode
from protocol.record_batch import parse_batch_header
from protocol.record_codec import iter_records
from s3stream.errors import Corrupt, Invalid, StreamError

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD = -1, -2, -3, -4, -5, -6
_LOWEST_BY_VERSION = {7: MAX_TIMESTAMP, 8: EARLIEST_LOCAL, 9: LATEST_TIERED, 10: LATEST_TIERED}
_UNKNOWN = (-1, -1, -1)


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    # A partition named twice is an error for that partition, told once (KafkaApis.handleListOffsetRequest).
    seen: set[tuple[str, int]] = set()
    repeated: set[tuple[str, int]] = set()
    for topic in body.topics:
        for partition in topic.partitions:
            key = (str(topic.name), int(partition.partition_index))
            (repeated if key in seen else seen).add(key)
    topics = []
    for topic in body.topics:
        rows = []
        for partition in topic.partitions:
            key = (str(topic.name), int(partition.partition_index))
            if key in repeated:
                if key in seen:
                    seen.discard(key)
                    rows.append(_row(partition.partition_index, ErrorCode.INVALID_REQUEST, _UNKNOWN))
            else:
                rows.append(await _partition(services, request, str(topic.name), partition))
        topics.append({"name": topic.name, "partitions": rows})
    return {"throttle_time": 0, "topics": topics}


async def _partition(services: Services, request: Request, topic: str, partition: Any) -> dict[str, Any]:
    index = int(partition.partition_index)
    log = services.partitions.get(topic, index)
    if log is None:
        return _row(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, _UNKNOWN)
    wanted_epoch = getattr(partition, "current_leader_epoch", -1)
    if wanted_epoch >= 0 and wanted_epoch != log.leader_epoch:
        older = wanted_epoch < log.leader_epoch
        error = ErrorCode.FENCED_LEADER_EPOCH if older else ErrorCode.UNKNOWN_LEADER_EPOCH
        return _row(index, error, _UNKNOWN)
    timestamp = _timestamp_ms(partition.timestamp)
    lowest = _LOWEST_BY_VERSION.get(
        request.api_version, EARLIEST if request.api_version < 7 else EARLIEST_PENDING_UPLOAD
    )
    if timestamp < lowest:
        return _row(index, ErrorCode.UNSUPPORTED_VERSION, _UNKNOWN)
    try:
        return _row(index, ErrorCode.NONE, await _find(log, timestamp))
    except Corrupt:
        return _row(index, ErrorCode.KAFKA_STORAGE_ERROR, _UNKNOWN)
    except Invalid:
        return _row(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, _UNKNOWN)
    except StreamError:
        return _row(index, ErrorCode.KAFKA_STORAGE_ERROR, _UNKNOWN)


async def _find(log: PartitionLog, timestamp: int) -> tuple[int, int, int]:
    """(timestamp, offset, leader epoch); -1 each where there is none."""
    if timestamp == LATEST:
        return -1, log.last_stable_offset, log.leader_epoch
    if timestamp == EARLIEST:
        return -1, log.log_start_offset, await _epoch_of(log, log.log_start_offset)
    if timestamp in (EARLIEST_LOCAL, EARLIEST_PENDING_UPLOAD):
        offset = max(log.stream.uploaded_end, log.log_start_offset)
        return -1, offset, await _epoch_of(log, offset)
    if timestamp == LATEST_TIERED:
        offset = log.stream.uploaded_end - 1
        if offset < log.log_start_offset:
            return _UNKNOWN
        return -1, offset, await _epoch_of(log, offset)
    if timestamp == MAX_TIMESTAMP:
        newest = await log.stream.max_timestamp()
        if newest is None:
            return _UNKNOWN
        found = _first_record(newest.batch, newest.timestamp_ms, log.log_start_offset)
        return _UNKNOWN if found is None else (*found, await _epoch_of(log, found[1]))
    from_offset = log.log_start_offset
    while (hit := await log.stream.offset_for_timestamp(timestamp, from_offset)) is not None:
        found = _first_record(hit.batch, timestamp, from_offset)
        if found is not None:
            return (*found, await _epoch_of(log, found[1]))
        from_offset = parse_batch_header(hit.batch).last_offset + 1
    return _UNKNOWN


def _first_record(batch: memoryview, timestamp: int, from_offset: int) -> tuple[int, int] | None:
    """(timestamp, offset) of the first record of the batch at or after both."""
    header = parse_batch_header(batch)
    if header.is_log_append_time:
        return (
            (header.max_timestamp, max(header.base_offset, from_offset)) if header.max_timestamp >= timestamp else None
        )
    for record in iter_records(batch):
        if record.timestamp_ms >= timestamp and record.offset >= from_offset:
            return record.timestamp_ms, record.offset
    return None


async def _epoch_of(log: PartitionLog, offset: int) -> int:
    history = await epoch_history(log)
    return max((epoch for epoch, start in history if start <= offset), default=log.leader_epoch)


def _timestamp_ms(value: Any) -> int:
    return int(value)


def _row(index: int, error: ErrorCode, found: tuple[int, int, int]) -> dict[str, Any]:
    timestamp, offset, epoch = found
    return {
        "partition_index": index,
        "error_code": error,
        "timestamp": timestamp,
        "offset": offset,
        "leader_epoch": epoch,
    }
