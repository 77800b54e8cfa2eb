"""The logs that this broker leads, found by topic name or id: the first look-up of every produce and fetch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from broker.cluster.controller import ImageChange, LogToOpen
from broker.partitions.log import PartitionLog
from broker.partitions.topic_logs import TopicLogs
from s3stream.ports import Clock

if TYPE_CHECKING:
    from s3stream.engine import StreamEngine


class Partitions:
    """Registry of open logs; the `PartitionHost` of the controller and a subscriber of its images."""

    def __init__(self, engine: StreamEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._by_stream: dict[int, PartitionLog] = {}
        self.by_key: dict[str | bytes, TopicLogs] = {}
        """Each topic twice: by its name and by the 16 bytes of its id."""

    def get(self, topic: str, index: int) -> PartitionLog | None:
        logs = self.by_key.get(topic)
        return None if logs is None else logs.get(index)

    def by_stream(self, stream_id: int) -> PartitionLog | None:
        return self._by_stream.get(stream_id)

    def all(self) -> Iterator[PartitionLog]:
        return iter(self._by_stream.values())

    def __len__(self) -> int:
        return len(self._by_stream)

    async def open_new(self, logs: Sequence[LogToOpen]) -> Mapping[int, int]:
        """Open the streams in one transaction; leader epoch by stream id. Ready to serve when it returns."""
        streams = await self._engine.open_streams([log.stream_id for log in logs])
        by_id = {stream.stream_id: stream for stream in streams}
        epochs: dict[int, int] = {}
        for asked in logs:
            stream = by_id.get(asked.stream_id)
            if stream is None:
                continue  # deleted meanwhile: the metadata no longer has it
            topic = self.by_key.get(asked.topic)
            if topic is None or topic.topic_id != asked.topic_id.bytes:
                topic = TopicLogs(
                    asked.topic, asked.topic_id.bytes, asked.config, asked.internal, self._engine.max_append_bytes
                )
                self.by_key[asked.topic] = topic
                self.by_key[topic.topic_id] = topic
            topic.logs.extend([None] * (asked.partition + 1 - len(topic.logs)))
            former = topic.logs[asked.partition]
            log = PartitionLog(topic, asked.partition, stream, self._clock)
            topic.logs[asked.partition] = log
            self._by_stream[asked.stream_id] = log
            if former is not None:
                former.gone()
            epochs[asked.stream_id] = stream.epoch
        return epochs

    async def drop(self, stream_ids: Sequence[int]) -> None:
        """Deleted partitions: requests get UNKNOWN_TOPIC, waiting fetches look again, memory is given back."""
        for stream_id in stream_ids:
            log = self._by_stream.pop(stream_id, None)
            if log is None:
                continue
            topic = log.topic
            topic.logs[log.index] = None
            if self.by_key.get(topic.name) is topic and not any(topic.logs):
                del self.by_key[topic.name]
            if not any(topic.logs):
                self.by_key.pop(topic.topic_id, None)
            log.gone()
        await self._engine.delete_streams(stream_ids)

    def image_changed(self, change: ImageChange) -> None:
        """Deleted topics are unknown at once; changed configs hold from the next batch on."""
        for deleted in change.deleted:
            topic = self.by_key.get(deleted.name)
            if topic is not None and topic.topic_id == deleted.id_bytes:
                del self.by_key[deleted.name]
                self.by_key.pop(topic.topic_id, None)
        for changed in change.reconfigured:
            topic = self.by_key.get(changed.name)
            if topic is not None:
                topic.configure(changed.config, self._engine.max_append_bytes)
