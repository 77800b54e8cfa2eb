"""Fetches without a session: librdkafka and others name all their partitions in each request.

The request is compared with the one before it on the same connection, row of bytes by row of bytes: an equal row whose
partition is settled is answered with the bytes of the last answer. *Measured* by tests/unit/broker/measure_fetch.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.fetching.pass_over import PartitionAnswer
from broker.fetching.standing import FetchPartition, StandingFetch, response_row
from protocol.fetch import FetchRequest, ResponseTopic, encode_empty_partition, unpack_partition

BY_ID_FROM_VERSION = 13


class _Topic:
    """The partitions of one topic that were asked for and may be asked for again."""

    __slots__ = ("asked", "by_index", "by_row", "key", "replaced")

    def __init__(self, key: str | bytes) -> None:
        self.key = key
        self.by_row: dict[bytes, FetchPartition] = {}
        self.by_index: dict[int, FetchPartition] = {}  # the same ones
        self.asked: list[FetchPartition] = []
        self.replaced = False


class FullFetch(StandingFetch):
    """What one connection asks for; one request at a time. Holds no partition that its last request did not name, and
    none that was answered with records or an error."""

    __slots__ = ("_asked", "_layout", "_topics")

    def __init__(self) -> None:
        super().__init__()
        self._layout = (-1, False)
        self._topics: dict[str | bytes, _Topic] = {}
        self._asked: list[_Topic] = []

    def ask(self, version: int, request: FetchRequest) -> None:
        """Take over what the request names."""
        layout = version, request.isolation_level == 1
        if layout != self._layout:
            self._forget_all()
            self._layout = layout
        by_key: dict[str | bytes, list[bytes]] = {}
        for name, topic_id, rows in request.topics:
            key = topic_key(name, topic_id)
            by_key[key] = by_key[key] + rows if key in by_key else rows
        topics = self._topics
        self._asked = []
        for key, rows in by_key.items():
            topic = topics.get(key)
            if topic is None:
                topic = topics[key] = _Topic(key)
            self._ask(topic, rows)
            self._asked.append(topic)
        if len(topics) > len(by_key):
            for topic in [topic for key, topic in topics.items() if key not in by_key]:
                self._forget(topic, list(topic.by_row.values()))
                del topics[topic.key]

    def _ask(self, topic: _Topic, rows: list[bytes]) -> None:
        by_row = topic.by_row
        known = by_row.get
        asked = [known(row) or self._add(topic, row) for row in rows]
        if topic.replaced or len(by_row) != len(asked):
            topic.replaced = False
            # of a partition named twice the last counts, as in Kafka
            named = {partition.index: partition for partition in asked}
            asked = list(named.values())
            self._forget(topic, [each for each in by_row.values() if named.get(each.index) is not each])
        topic.asked = asked

    def _add(self, topic: _Topic, row: bytes) -> FetchPartition:
        index, leader_epoch, offset, last_epoch, _, max_bytes = unpack_partition(self._layout[0], row)
        partition = FetchPartition(topic.key, index, leader_epoch, offset, last_epoch, max_bytes, row)
        former = topic.by_index.get(index)
        if former is not None:
            self._forget(topic, (former,))
            topic.replaced = True  # the consumer has jumped to another offset, or names a partition twice
        topic.by_row[row] = topic.by_index[index] = partition
        return partition

    def to_look_at(self, *, incremental: bool) -> list[FetchPartition]:
        return [partition for topic in self._asked for partition in topic.asked if not partition.settled]

    def settle(self, answer: PartitionAnswer) -> None:
        partition, log = answer.partition, answer.log
        assert log is not None
        if not self.closed:
            partition.settled = True
            partition.reply = b""  # encoded when it is asked for: what moves before that never is
            self.watch(partition, log)

    def answer(
        self, answers: Sequence[PartitionAnswer], version: int, *, incremental: bool, read_committed: bool
    ) -> list[ResponseTopic]:
        loud = [answer for answer in answers if not answer.quiet]
        for answer in loud:
            answer.partition.reply = response_row(answer, read_committed=read_committed)
        topics: list[ResponseTopic] = []
        for topic in self._asked:
            replies = [partition.reply or self._encode(partition) for partition in topic.asked]
            key = topic.key
            topics.append((None, key, replies) if isinstance(key, bytes) else (key, None, replies))
            topic.asked = []  # the replies hold views of records
        self._asked = []
        for answer in loud:
            self._forget(self._topics[answer.partition.topic], (answer.partition,))
        return topics

    def _encode(self, partition: FetchPartition) -> bytes:
        """A partition that was found without data."""
        assert partition.log is not None
        version, read_committed = self._layout
        stream = partition.log.stream
        end = stream.durable_end
        partition.reply = encoded = encode_empty_partition(
            version, partition.index, end, end, stream.start_offset, read_committed=read_committed
        )
        return encoded

    def close(self) -> None:
        super().close()
        self._forget_all()

    def _forget_all(self) -> None:
        for topic in self._topics.values():
            self._forget(topic, list(topic.by_row.values()))
        self._topics = {}
        self._asked = []

    def _forget(self, topic: _Topic, partitions: Sequence[FetchPartition]) -> None:
        for partition in partitions:
            self.unwatch(partition)
            if topic.by_row.get(partition.row) is partition:
                del topic.by_row[partition.row]
            if topic.by_index.get(partition.index) is partition:
                del topic.by_index[partition.index]


def topic_key(name: str | None, topic_id: bytes | None) -> str | bytes:
    """Whichever of the two the request's version carries."""
    return topic_id if topic_id is not None else name or ""
