"""The cluster image: an immutable snapshot of topics, partitions, leaders, configs and brokers for the data plane.

Readers take the current image once per request and never see a half-made change. A change builds a new image that
shares every untouched topic with the old one. Partitions are columns of numbers, not objects: 10,000 idle ones cost a
few hundred kilobytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from broker.cluster.names import collision_key
from broker.cluster.rows import NO_LEADER, ClusterRows, StoredTopic
from broker.configs import BrokerLayers, TopicConfig

CACHED_ANSWERS = 64


class BrokerEndpoint(NamedTuple):
    """A live broker and where its clients reach it."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class PartitionView(NamedTuple):
    """One partition. `leader_id` is NO_LEADER while no broker has opened its log; the epoch is the stream epoch."""

    stream_id: int
    leader_id: int
    leader_epoch: int


class TopicImage:
    """One topic. The tuples are by partition index. `encoded` keeps serialised forms of this very value."""

    __slots__ = (
        "config",
        "encoded",
        "id_bytes",
        "internal",
        "leader_epochs",
        "leader_ids",
        "name",
        "overrides",
        "replication_factor",
        "stream_ids",
        "topic_id",
    )

    def __init__(self, stored: StoredTopic, config: TopicConfig) -> None:
        self.name = stored.name
        self.topic_id = uuid.UUID(hex=stored.topic_id)
        self.id_bytes = self.topic_id.bytes
        self.internal = stored.internal
        self.replication_factor = stored.replication_factor
        self.stream_ids = tuple(stored.stream_ids)
        self.leader_ids = tuple(stored.leader_ids)
        self.leader_epochs = tuple(stored.leader_epochs)
        self.overrides: Mapping[str, str] = dict(stored.configs)
        self.config = config
        self.encoded: dict[tuple[int, bool], bytes] = {}

    @property
    def partition_count(self) -> int:
        return len(self.stream_ids)

    def partition(self, index: int) -> PartitionView | None:
        """The partition, or None when the topic has no such index."""
        if 0 <= index < len(self.stream_ids):
            return PartitionView(self.stream_ids[index], self.leader_ids[index], self.leader_epochs[index])
        return None

    def stored(self) -> StoredTopic:
        """The metadata rows behind this value."""
        return StoredTopic(
            self.topic_id.hex,
            self.name,
            self.internal,
            self.replication_factor,
            self.stream_ids,
            self.leader_ids,
            self.leader_epochs,
            self.overrides,
        )


class ClusterImage:
    """A snapshot. `topics` is by name in the order of creation; `encoded` keeps at most CACHED_ANSWERS answers."""

    __slots__ = (
        "brokers",
        "by_id",
        "by_id_bytes",
        "cluster_id",
        "colliding",
        "encoded",
        "layers",
        "revision",
        "topics",
    )

    def __init__(
        self,
        revision: int,
        cluster_id: str,
        brokers: Sequence[BrokerEndpoint],
        layers: BrokerLayers,
        topics: Iterable[TopicImage] = (),
    ) -> None:
        self.revision = revision
        self.cluster_id = cluster_id
        self.brokers = tuple(brokers)
        self.layers = layers
        self.topics: dict[str, TopicImage] = {}
        self.by_id: dict[uuid.UUID, TopicImage] = {}
        self.by_id_bytes: dict[bytes, TopicImage] = {}
        self.colliding: dict[str, str] = {}
        self.encoded: dict[Hashable, bytes] = {}
        for topic in topics:
            self._add(topic)

    def _add(self, topic: TopicImage) -> None:
        self.topics[topic.name] = topic
        self.by_id[topic.topic_id] = topic
        self.by_id_bytes[topic.id_bytes] = topic
        if (key := collision_key(topic.name)) is not None:
            self.colliding[key] = topic.name

    def _remove(self, name: str) -> None:
        topic = self.topics.pop(name, None)
        if topic is None:
            return
        del self.by_id[topic.topic_id], self.by_id_bytes[topic.id_bytes]
        if (key := collision_key(name)) is not None:
            self.colliding.pop(key, None)

    @property
    def controller_id(self) -> int:
        """Any broker takes administrative requests; the lowest live one is named, -1 when there is none."""
        return min((broker.node_id for broker in self.brokers), default=-1)

    def topic(self, name: str) -> TopicImage | None:
        return self.topics.get(name)

    def topic_by_id(self, topic_id: uuid.UUID) -> TopicImage | None:
        return self.by_id.get(topic_id)

    def colliding_name(self, name: str) -> str | None:
        """Another topic whose name differs from `name` only in '.' and '_'."""
        key = collision_key(name)
        found = self.colliding.get(key) if key is not None else None
        return found if found != name else None

    def replicas(self, topic: TopicImage, index: int) -> tuple[int, ...]:
        """The brokers shown as replicas, leader first: as many as the topic asked for, repeated if there are fewer.

        The object store replicates; the list only keeps tools content that compare it with the asked factor.
        """
        leader = topic.leader_ids[index]
        ids = [broker.node_id for broker in self.brokers]
        if leader != NO_LEADER:
            place = ids.index(leader) if leader in ids else 0
            ids = [leader, *(each for each in ids[place:] + ids[:place] if each != leader)]
        if not ids:
            return ()
        return tuple(ids[number % len(ids)] for number in range(topic.replication_factor))

    def keep_answer(self, key: Hashable, answer: bytes) -> bytes:
        """Remember a serialised answer until the image changes."""
        if len(self.encoded) >= CACHED_ANSWERS:
            self.encoded.pop(next(iter(self.encoded)))
        self.encoded[key] = answer
        return answer

    def with_topics(self, revision: int, changed: Iterable[StoredTopic], removed: Iterable[str] = ()) -> ClusterImage:
        """The next image: `changed` topics added or put in place, those named in `removed` left out."""
        image = ClusterImage(revision, self.cluster_id, self.brokers, self.layers)
        image.topics, image.colliding = dict(self.topics), dict(self.colliding)
        image.by_id, image.by_id_bytes = dict(self.by_id), dict(self.by_id_bytes)
        for name in removed:
            image._remove(name)
        for stored in changed:
            before = image.topics.get(stored.name)
            if before is not None and before.topic_id.hex != stored.topic_id:
                image._remove(stored.name)  # deleted and made again under the same name
            image._add(TopicImage(stored, self.layers.topic_config(stored.configs)))
        return image

    def with_layers(self, revision: int, layers: BrokerLayers) -> ClusterImage:
        """The next image after a change of dynamic broker configs, which every topic inherits."""
        topics = [TopicImage(each.stored(), layers.topic_config(each.overrides)) for each in self.topics.values()]
        return ClusterImage(revision, self.cluster_id, self.brokers, layers, topics)

    def with_brokers(self, brokers: Sequence[BrokerEndpoint]) -> ClusterImage:
        """The next image after brokers came, went or moved; replica lists follow."""
        topics = [TopicImage(each.stored(), each.config) for each in self.topics.values()]
        return ClusterImage(self.revision, self.cluster_id, brokers, self.layers, topics)


def build_image(rows: ClusterRows, brokers: Sequence[BrokerEndpoint], layers: BrokerLayers) -> ClusterImage:
    """The image of freshly loaded rows; `layers` holds their broker configs already."""
    topics = [TopicImage(stored, layers.topic_config(stored.configs)) for stored in rows.topics]
    return ClusterImage(rows.revision, rows.cluster_id, brokers, layers, topics)
