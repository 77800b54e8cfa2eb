"""The requests of the workloads: API keys, the versions that are spoken, and the bodies."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 0, 1, 2, 3, 8, 9, 10
JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP, API_VERSIONS = 11, 12, 13, 14, 18
CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS, INIT_PRODUCER_ID, CREATE_PARTITIONS = 19, 20, 21, 22, 37
INCREMENTAL_ALTER_CONFIGS = 44

VERSIONS = {
    PRODUCE: 9,
    FETCH: 12,
    LIST_OFFSETS: 7,
    METADATA: 12,
    OFFSET_COMMIT: 8,
    OFFSET_FETCH: 8,
    FIND_COORDINATOR: 4,
    JOIN_GROUP: 7,
    HEARTBEAT: 4,
    LEAVE_GROUP: 4,
    SYNC_GROUP: 5,
    API_VERSIONS: 3,
    CREATE_TOPICS: 7,
    DELETE_TOPICS: 6,
    DELETE_RECORDS: 2,
    INIT_PRODUCER_ID: 4,
    CREATE_PARTITIONS: 3,
    INCREMENTAL_ALTER_CONFIGS: 1,
}
PRODUCE_BY_ID, FETCH_BY_ID = 13, 16

EARLIEST, LATEST = -2, -1


def produce_body(topic: str, partition: int, records: bytes, acks: int) -> Mapping[str, Any]:
    data = {"name": topic, "partition_data": [{"index": partition, "records": records}]}
    return {"transactional_id": None, "acks": acks, "timeout": 30_000, "topic_data": [data]}


def fetch_body(
    topic: str, offsets: Sequence[tuple[int, int]], *, max_wait_ms: int, max_bytes: int
) -> Mapping[str, Any]:
    """`offsets`: (partition, offset) pairs."""
    partitions = [
        {
            "partition": partition,
            "current_leader_epoch": -1,
            "fetch_offset": offset,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
            "partition_max_bytes": max_bytes,
        }
        for partition, offset in offsets
    ]
    return {
        "replica_id": -1,
        "max_wait": max_wait_ms,
        "min_bytes": 1,
        "max_bytes": max_bytes,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{"topic": topic, "partitions": partitions}],
        "forgotten_topics_data": [],
        "rack_id": "",
    }


def fetch_by_id_body(
    topic_id: UUID,
    offsets: Sequence[tuple[int, int]],
    *,
    max_wait_ms: int,
    max_bytes: int,
    session: tuple[int, int] = (0, -1),
    forgotten: Sequence[int] = (),
) -> Mapping[str, Any]:
    """Version 13 and above. `offsets`: (partition, offset) pairs; `session`: its id and epoch; `forgotten`: partitions
    that leave the session."""
    body = dict(fetch_body("", offsets, max_wait_ms=max_wait_ms, max_bytes=max_bytes))
    (topic,) = body.pop("topics")
    body["session_id"], body["session_epoch"] = session
    body["topics"] = [{"topic_id": topic_id, "partitions": topic["partitions"]}] if offsets else []
    body["forgotten_topics_data"] = [{"topic_id": topic_id, "partitions": list(forgotten)}] if forgotten else []
    return body


def produce_by_id_body(topic_id: UUID, partition: int, records: bytes, acks: int) -> Mapping[str, Any]:
    """Version 13 and above."""
    data = {"topic_id": topic_id, "partition_data": [{"index": partition, "records": records}]}
    return {"transactional_id": None, "acks": acks, "timeout": 30_000, "topic_data": [data]}


def list_offsets_body(topic: str, partition: int, timestamp: int) -> Mapping[str, Any]:
    wanted = {"partition_index": partition, "current_leader_epoch": -1, "timestamp": timestamp}
    return {"replica_id": -1, "isolation_level": 0, "topics": [{"name": topic, "partitions": [wanted]}]}


def create_topic_body(topic: str, partitions: int, configs: Mapping[str, str]) -> Mapping[str, Any]:
    wanted = {
        "name": topic,
        "num_partitions": partitions,
        "replication_factor": 1,
        "assignments": [],
        "configs": [{"name": name, "value": value} for name, value in configs.items()],
    }
    return {"topics": [wanted], "timeout": 30_000, "validate_only": False}


def init_producer_id_body() -> Mapping[str, Any]:
    return {"transactional_id": None, "transaction_timeout": 60_000, "producer_id": -1, "producer_epoch": -1}


def metadata_body(topics: Sequence[str]) -> Mapping[str, Any]:
    wanted = [{"topic_id": None, "name": name} for name in topics]
    return {"topics": wanted, "allow_auto_topic_creation": False, "include_topic_authorized_operations": False}


def delete_topic_body(name: str | None, topic_id: UUID | None) -> Mapping[str, Any]:
    """By its name or by its id."""
    return {"topics": [{"name": name, "topic_id": topic_id}], "timeout": 30_000}


def create_partitions_body(topic: str, count: int) -> Mapping[str, Any]:
    wanted = {"name": topic, "count": count, "assignments": None}
    return {"topics": [wanted], "timeout": 30_000, "validate_only": False}


def alter_topic_body(topic: str, configs: Mapping[str, str]) -> Mapping[str, Any]:
    changes = [{"name": name, "config_operation": 0, "value": value} for name, value in configs.items()]
    return {
        "resources": [{"resource_type": 2, "resource_name": topic, "configs": changes}],
        "validate_only": False,
    }


def delete_records_body(topic: str, partition: int, offset: int) -> Mapping[str, Any]:
    wanted = {"name": topic, "partitions": [{"partition_index": partition, "offset": offset}]}
    return {"topics": [wanted], "timeout": 30_000}


# -- groups, classic protocol


def subscription(topic: str) -> bytes:
    """ConsumerProtocolSubscription, version 0."""
    name = topic.encode()
    return struct.pack(">hih", 0, 1, len(name)) + name + struct.pack(">i", -1)


def assignment(topic: str, partitions: Sequence[int]) -> bytes:
    """ConsumerProtocolAssignment, version 0."""
    name = topic.encode()
    head = struct.pack(">hih", 0, 1, len(name)) + name + struct.pack(">i", len(partitions))
    return head + struct.pack(f">{len(partitions)}i", *partitions) + struct.pack(">i", -1)


def assigned_partitions(data: bytes) -> list[int]:
    """The partitions in the bytes of `assignment`; none in no bytes at all."""
    if not data:
        return []
    (size,) = struct.unpack_from(">h", data, 6)
    (count,) = struct.unpack_from(">i", data, 8 + size)
    return list(struct.unpack_from(f">{count}i", data, 12 + size))


def join_group_body(
    group: str, topic: str, member: str, instance: str | None, session_timeout_ms: int, rebalance_timeout_ms: int
) -> Mapping[str, Any]:
    return {
        "group_id": group,
        "session_timeout": session_timeout_ms,
        "rebalance_timeout": rebalance_timeout_ms,
        "member_id": member,
        "group_instance_id": instance,
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": subscription(topic)}],
    }


def sync_group_body(
    group: str, generation: int, member: str, instance: str | None, assignments: Mapping[str, bytes]
) -> Mapping[str, Any]:
    return {
        "group_id": group,
        "generation_id": generation,
        "member_id": member,
        "group_instance_id": instance,
        "protocol_type": "consumer",
        "protocol_name": "range",
        "assignments": [{"member_id": name, "assignment": data} for name, data in assignments.items()],
    }


def heartbeat_body(group: str, generation: int, member: str, instance: str | None) -> Mapping[str, Any]:
    return {"group_id": group, "generation_id": generation, "member_id": member, "group_instance_id": instance}


def leave_group_body(group: str, member: str, instance: str | None) -> Mapping[str, Any]:
    return {"group_id": group, "members": [{"member_id": member, "group_instance_id": instance}]}


def offset_commit_body(
    group: str, generation: int, member: str, instance: str | None, topic: str, offsets: Mapping[int, int]
) -> Mapping[str, Any]:
    partitions = [
        {
            "partition_index": partition,
            "committed_offset": offset,
            "committed_leader_epoch": -1,
            "committed_metadata": "",
        }
        for partition, offset in offsets.items()
    ]
    return {
        "group_id": group,
        "generation_id_or_member_epoch": generation,
        "member_id": member,
        "group_instance_id": instance,
        "topics": [{"name": topic, "partitions": partitions}],
    }


def offset_fetch_body(group: str, topic: str, partitions: Sequence[int]) -> Mapping[str, Any]:
    wanted = {"group_id": group, "topics": [{"name": topic, "partition_indexes": list(partitions)}]}
    return {"groups": [wanted], "require_stable": True}
