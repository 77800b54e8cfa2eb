"""What a request for a topic, or for more partitions, leads to: a plan or a refusal (pure).

Order of checks, codes and texts follow Apache Kafka 4.3 (`ReplicationControlManager`), asked on the wire. On purpose
different: any replication factor from 1 is taken unless `strict.replication.factor` is set, and the internal topics
cannot be given more partitions, since groups are placed by their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from broker.cluster.image import ClusterImage, TopicImage
from broker.cluster.names import CONSUMER_OFFSETS, INTERNAL_TOPICS, name_problem
from broker.configs.alter import topic_overrides
from broker.refusal import Refused
from broker.settings import Settings
from protocol.errors import ErrorCode

MAX_PARTITIONS_PER_REQUEST = 10_000

Assignment = Sequence[int]

_INTERNAL_CONFIGS = {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": str(100 << 20)}


class TopicRequest(NamedTuple):
    """One topic as asked for; -1 stands for the default. `assignments`: (partition index, broker ids)."""

    name: str
    num_partitions: int = -1
    replication_factor: int = -1
    assignments: Sequence[tuple[int, Assignment]] = ()
    configs: Sequence[tuple[str, str | None]] = ()


class TopicPlan(NamedTuple):
    """A topic as it will be."""

    name: str
    partitions: int
    replication_factor: int
    overrides: Mapping[str, str]
    internal: bool


def check_total(requests: Sequence[TopicRequest], settings: Settings) -> None:
    """Refused when one request asks for more partitions than a broker should make in one go."""
    total = 0
    for request in requests:
        asked = len(request.assignments) or request.num_partitions
        total += settings.topics.num_partitions if asked == -1 else max(asked, 0)
    if total > MAX_PARTITIONS_PER_REQUEST:
        raise Refused(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")


def plan_topic(request: TopicRequest, image: ClusterImage, settings: Settings) -> TopicPlan:
    """The topic to create. Raises Refused."""
    name = request.name
    problem = name_problem(name)
    if problem is not None:
        raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
    other = image.colliding_name(name)
    if other is not None:
        raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {other}")
    if image.topic(name) is not None:
        raise Refused(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    internal = name in INTERNAL_TOPICS
    overrides = topic_overrides(request.configs, internal=internal)
    if internal:
        overrides = {**_INTERNAL_CONFIGS, **overrides}
    if request.assignments:
        partitions, factor = _assigned(request, image)
    else:
        partitions, factor = _counted(request, image, settings)
    return TopicPlan(name, partitions, factor, overrides, internal)


def internal_request(name: str, settings: Settings) -> TopicRequest:
    """The request by which the broker makes an internal topic for itself."""
    if name != CONSUMER_OFFSETS:
        raise ValueError(f"{name} is no internal topic")
    return TopicRequest(name, settings.groups.offsets_partitions, settings.groups.offsets_replication_factor)


def _counted(request: TopicRequest, image: ClusterImage, settings: Settings) -> tuple[int, int]:
    """Partitions and replication factor of a request without manual assignment."""
    factor, partitions = request.replication_factor, request.num_partitions
    if factor == 0 or factor < -1:
        raise Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if partitions == 0 or partitions < -1:
        raise Refused(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    if factor == -1:
        factor = settings.topics.default_replication_factor
    live = len(image.brokers)
    if settings.topics.strict_replication_factor and factor > live:
        raise Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be "
            f"reached because only {live} broker(s) are registered.",
        )
    return settings.topics.num_partitions if partitions == -1 else partitions, factor


def _assigned(request: TopicRequest, image: ClusterImage) -> tuple[int, int]:
    """Partitions and replication factor of a manual assignment."""
    if request.replication_factor != -1:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        )
    if request.num_partitions != -1:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        )
    seen: dict[int, Assignment] = {}
    factor: int | None = None
    for index, broker_ids in request.assignments:
        if index in seen:
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Found multiple manual partition assignments for partition {index}",
            )
        seen[index] = broker_ids
        check_assignment(broker_ids, factor, image)
        factor = len(broker_ids)
    if sorted(seen) != list(range(len(seen))):
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
        )
    return len(seen), factor or 1


def check_assignment(broker_ids: Assignment, factor: int | None, image: ClusterImage) -> None:
    """Refused unless the brokers exist, are named once, and are as many as in the partitions before (`factor`)."""
    if not broker_ids:
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list."
        )
    live = {broker.node_id for broker in image.brokers}
    before: int | None = None
    for broker_id in sorted(broker_ids):
        if broker_id not in live:
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes broker {broker_id}, but no such broker is registered.",
            )
        if broker_id == before:
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"The manual partition assignment includes the broker {broker_id} more than once.",
            )
        before = broker_id
    if factor is not None and factor != len(broker_ids):
        raise Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"The manual partition assignment includes a partition with {len(broker_ids)} replica(s), but this is not "
            f"consistent with previous partitions, which have {factor} replica(s).",
        )


def plan_partitions(name: str, count: int, assignments: Sequence[Assignment] | None, image: ClusterImage) -> TopicImage:
    """The topic that may grow to `count` partitions. Raises Refused."""
    topic = image.topic(name)
    if topic is None:
        raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    have = topic.partition_count
    if count == have:
        raise Refused(ErrorCode.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if count < have:
        raise Refused(
            ErrorCode.INVALID_PARTITIONS,
            f"The topic {name} currently has {have} partition(s); {count} would not be an increase.",
        )
    if topic.internal:
        raise Refused(
            ErrorCode.INVALID_REQUEST, f"The internal topic {name} cannot grow: groups are placed by its partitions."
        )
    added = count - have
    if added > MAX_PARTITIONS_PER_REQUEST:
        raise Refused(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")
    if assignments is not None:
        if len(assignments) != added:
            raise Refused(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"Attempted to add {added} additional partition(s), but only {len(assignments)} assignment(s) were "
                "specified.",
            )
        for broker_ids in assignments:
            check_assignment(broker_ids, None, image)
    return topic
