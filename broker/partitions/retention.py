"""What a topic's configs mean to the engine's retention duty."""

from __future__ import annotations

from broker.partitions.registry import Partitions
from s3stream.retention import RetentionPolicy


def retention_policy(partitions: Partitions, stream_id: int) -> RetentionPolicy | None:
    """`retention.ms` and `retention.bytes` of the topic that the stream belongs to; None: leave it alone.

    Internal topics are never cut by age or size: their coordinators trim them.
    """
    log = partitions.by_stream(stream_id)
    if log is None or log.topic.internal:
        return None
    config = log.topic.config
    if not config.delete:
        return None
    return RetentionPolicy(
        None if config.retention_ms < 0 else config.retention_ms,
        None if config.retention_bytes < 0 else config.retention_bytes,
    )
