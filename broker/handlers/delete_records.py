"""DeleteRecords (key 21), versions 0 to 2: moves the log start offset (KIP-107).

Behaviour: offset -1 is the high watermark; an offset above it is OFFSET_OUT_OF_RANGE; one below the start changes
nothing. Durable in the metadata before it is answered. Objects that no longer hold a live record are deleted later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.request import Request
from broker.services import Services
from protocol.errors import ErrorCode
from s3stream.errors import Invalid, StreamError

_INTERNAL = frozenset(("__consumer_offsets", "__transaction_state"))


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    topics = []
    for topic in request.body.topics:
        rows = []
        for partition in topic.partitions:
            index = int(partition.partition_index)
            low_watermark, error = await _trim(services, str(topic.name), index, int(partition.offset))
            rows.append({"partition_index": index, "low_watermark": low_watermark, "error_code": error})
        topics.append({"name": topic.name, "partitions": rows})
    return {"throttle_time": 0, "topics": topics}


async def _trim(services: Services, topic: str, index: int, offset: int) -> tuple[int, ErrorCode]:
    log = services.partitions.get(topic, index)
    if log is None:
        return -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if topic in _INTERNAL:
        return -1, ErrorCode.INVALID_TOPIC_EXCEPTION
    high_watermark = log.high_watermark
    if offset == -1:
        offset = high_watermark
    if offset < 0 or offset > high_watermark:
        return -1, ErrorCode.OFFSET_OUT_OF_RANGE
    try:
        if offset > log.log_start_offset:
            await log.stream.trim(offset)
    except Invalid:
        return -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    except StreamError:
        return -1, ErrorCode.KAFKA_STORAGE_ERROR
    return log.log_start_offset, ErrorCode.NONE
