"""Values that cross between the cluster commands and their callers."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

NO_LEADER = -1


class Resource(enum.IntEnum):
    """Kafka's numbers of the resources that have configs."""

    TOPIC = 2
    BROKER = 4


class NewTopic(NamedTuple):
    """A topic to create. `topic_id` (32 hex digits, chosen at random by the caller) is the natural key."""

    topic_id: str
    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str]
    internal: bool = False


class StoredTopic(NamedTuple):
    """A topic as the metadata has it; the sequences are by partition index. Not led yet: NO_LEADER, epoch 0."""

    topic_id: str
    name: str
    internal: bool
    replication_factor: int
    stream_ids: Sequence[int]
    leader_ids: Sequence[int]
    leader_epochs: Sequence[int]
    configs: Mapping[str, str]


class ConfigDelta(NamedTuple):
    """Change of the configs of one resource: a topic by its id, a broker by its number, "" for all brokers."""

    resource: Resource
    name: str
    put: Mapping[str, str]
    drop: Sequence[str]


class ClusterRows(NamedTuple):
    """Everything that an image is built from. `broker_configs`: resource name -> name -> value."""

    revision: int
    cluster_id: str
    topics: Sequence[StoredTopic]
    broker_configs: Mapping[str, Mapping[str, str]]
