"""OffsetForLeaderEpoch (key 23), versions 2 to 4.

Behaviour: where a leader epoch ended, from the stream's epoch history (KIP-101, KIP-279, KIP-320): consumers use it to
find out that a log was cut under them. Consumer and replica requests are answered alike (replica id is ignored).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.partitions.loading import epoch_history
from broker.request import Request
from broker.services import Services
from protocol.errors import ErrorCode
from s3stream.errors import StreamError


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    topics = []
    for topic in request.body.topics:
        rows = [await _partition(services, str(topic.topic), partition) for partition in topic.partitions]
        topics.append({"topic": topic.topic, "partitions": rows})
    return {"throttle_time": 0, "topics": topics}


async def _partition(services: Services, topic: str, partition: Any) -> dict[str, Any]:
    index = int(partition.partition)
    log = services.partitions.get(topic, index)
    if log is None:
        return _row(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    wanted = int(partition.current_leader_epoch)
    if wanted >= 0 and wanted != log.leader_epoch:
        older = wanted < log.leader_epoch
        return _row(index, ErrorCode.FENCED_LEADER_EPOCH if older else ErrorCode.UNKNOWN_LEADER_EPOCH)
    try:
        history = await epoch_history(log)
    except StreamError:
        return _row(index, ErrorCode.KAFKA_STORAGE_ERROR)
    epoch, end_offset = log.end_offset_for_epoch(history, int(partition.leader_epoch))
    return _row(index, ErrorCode.NONE, epoch, end_offset)


def _row(index: int, error: ErrorCode, epoch: int = -1, end_offset: int = -1) -> dict[str, Any]:
    return {"partition": index, "error_code": error, "leader_epoch": epoch, "end_offset": end_offset}
