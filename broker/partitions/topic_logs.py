"""`TopicLogs`: the logs of one topic that this broker leads, and what every produced batch asks of its config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.configs import TopicConfig

if TYPE_CHECKING:
    from broker.partitions.log import PartitionLog


class TopicLogs:
    """One topic's logs by index (None: not led here) and its effective config."""

    __slots__ = (
        "config",
        "internal",
        "log_append_time",
        "logs",
        "max_batch_bytes",
        "name",
        "recompresses",
        "timestamp_after_max_ms",
        "timestamp_before_max_ms",
        "topic_id",
    )

    def __init__(self, name: str, topic_id: bytes, config: TopicConfig, internal: bool, max_append_bytes: int) -> None:
        self.name = name
        self.topic_id = topic_id
        self.internal = internal
        self.configure(config, max_append_bytes)
        self.logs: list[PartitionLog | None] = []

    def configure(self, config: TopicConfig, max_append_bytes: int) -> None:
        """Effective from the next batch on. What the WAL cannot hold is too large whatever `max.message.bytes` says."""
        self.config = config
        self.max_batch_bytes = min(config.max_message_bytes, max_append_bytes)
        # Asked for each batch: plain fields here, an attribute of a structure elsewhere.
        self.recompresses = config.compression_type != "producer"
        self.log_append_time = config.log_append_time
        self.timestamp_before_max_ms = config.timestamp_before_max_ms
        self.timestamp_after_max_ms = config.timestamp_after_max_ms

    def get(self, index: int) -> PartitionLog | None:
        return self.logs[index] if 0 <= index < len(self.logs) else None
