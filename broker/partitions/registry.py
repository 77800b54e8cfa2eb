"""The logs that this broker leads, found by topic name or id: the first look-up of every produce and fetch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from broker.configs import TopicConfig
from broker.partitions.log import PartitionLog
from s3stream.engine import StreamEngine
from s3stream.ports import Clock


class LedPartition(NamedTuple):
    """A partition that this broker is to lead; `topic_id` is 16 bytes."""

    topic: str
    topic_id: bytes
    index: int
    stream_id: int


class TopicLogs:
    """One topic's logs by index (None: not led here) and its effective config."""

    __slots__ = ("config", "logs", "name", "topic_id")

    def __init__(self, name: str, topic_id: bytes, config: TopicConfig) -> None:
        self.name = name
        self.topic_id = topic_id
        self.config = config
        self.logs: list[PartitionLog | None] = []

    def get(self, index: int) -> PartitionLog | None:
        return self.logs[index] if 0 <= index < len(self.logs) else None


class Partitions:
    """Registry of open logs. `open` is the only way in, `drop_topic` the only way out."""

    def __init__(self, engine: StreamEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._by_stream: dict[int, PartitionLog] = {}
        self.by_name: dict[str, TopicLogs] = {}
        self.by_id: dict[bytes, TopicLogs] = {}

    def get(self, topic: str, index: int) -> PartitionLog | None:
        logs = self.by_name.get(topic)
        return None if logs is None else logs.get(index)

    def by_stream(self, stream_id: int) -> PartitionLog | None:
        return self._by_stream.get(stream_id)

    def all(self) -> Iterator[PartitionLog]:
        return iter(self._by_stream.values())

    def __len__(self) -> int:
        return len(self._by_stream)

    async def open(self, partitions: Sequence[LedPartition], configs: dict[str, TopicConfig]) -> dict[int, int]:
        """Open the streams in one transaction; leader epoch by stream id. Ready to serve when it returns."""
        streams = await self._engine.open_streams([partition.stream_id for partition in partitions])
        by_id = {stream.stream_id: stream for stream in streams}
        epochs: dict[int, int] = {}
        for partition in partitions:
            stream = by_id.get(partition.stream_id)
            if stream is None:
                continue  # deleted meanwhile: the metadata no longer has it
            topic = self.by_name.get(partition.topic)
            if topic is None or topic.topic_id != partition.topic_id:
                topic = TopicLogs(partition.topic, partition.topic_id, configs[partition.topic])
                self.by_name[partition.topic] = topic
                self.by_id[partition.topic_id] = topic
            topic.logs.extend([None] * (partition.index + 1 - len(topic.logs)))
            log = PartitionLog(topic, partition.index, stream, self._clock)
            topic.logs[partition.index] = log
            self._by_stream[partition.stream_id] = log
            epochs[partition.stream_id] = stream.epoch
        return epochs

    def set_config(self, topic: str, config: TopicConfig) -> None:
        """Effective from the next batch on."""
        logs = self.by_name.get(topic)
        if logs is not None:
            logs.config = config

    async def drop_topic(self, topic: str) -> None:
        """Forget a deleted topic: requests get UNKNOWN_TOPIC, waiting fetches look again, memory is given back."""
        logs = self.by_name.pop(topic, None)
        if logs is None:
            return
        self.by_id.pop(logs.topic_id, None)
        gone = [log for log in logs.logs if log is not None]
        for log in gone:
            del self._by_stream[log.stream.stream_id]
            log.gone()
        await self._engine.delete_streams([log.stream.stream_id for log in gone])
