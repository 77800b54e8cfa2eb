"""What the commands ask a cluster: topics, offsets, groups and their lag, as plain values.

Lag in seconds is now minus the timestamp of the first unread record, read from the log itself: 0 at the end of a
partition, None when the group has no offset there or the record cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from broker.cli.client import Client, ClientError, check
from protocol.errors import ErrorCode
from protocol.messages import field
from protocol.record_batch import InvalidBatch, parse_batch_header
from protocol.record_codec import iter_records

EARLIEST, LATEST = -2, -1
_FETCH_BYTES = 64 << 10
_CONCURRENT_PARTITIONS_PER_REQUEST = 200

Place = tuple[str, int]
"""(topic, partition index)."""


class PartitionLag(NamedTuple):
    """One partition of one group; None where nothing is known."""

    topic: str
    partition: int
    committed: int | None
    end_offset: int | None
    records: int | None
    seconds: float | None
    member: str
    client_id: str
    host: str


async def leaders(client: Client, topics: Iterable[str]) -> dict[Place, int]:
    """The leader of each partition of these topics; those without one are left out."""
    answer = await client.metadata(sorted(set(topics)))
    return {
        (topic.name, partition.partition_index): partition.leader_id
        for topic in answer.topics
        for partition in topic.partitions
        if partition.leader_id >= 0
    }


def by_leader(places: Iterable[Place], leader_of: Mapping[Place, int]) -> dict[int, dict[str, list[int]]]:
    """leader -> topic -> partition indexes."""
    found: dict[int, dict[str, list[int]]] = {}
    for topic, index in places:
        if (topic, index) in leader_of:
            found.setdefault(leader_of[topic, index], {}).setdefault(topic, []).append(index)
    return found


async def offsets_at(
    client: Client, places: Sequence[Place], timestamp_ms: int, leader_of: Mapping[Place, int]
) -> dict[Place, int]:
    """The offset at a timestamp (EARLIEST and LATEST too) of each partition; -1: no record that late."""
    found: dict[Place, int] = {}
    for node_id, topics in by_leader(places, leader_of).items():
        body = {
            "replica_id": -1,
            "isolation_level": 0,
            "topics": [
                {
                    "name": name,
                    "partitions": [
                        {"partition_index": index, "current_leader_epoch": -1, "timestamp": timestamp_ms}
                        for index in indexes
                    ],
                }
                for name, indexes in topics.items()
            ],
            "timeout": 10_000,
        }
        answer = await client.call_on(node_id, 2, body, 7)
        for topic in answer.topics:
            for partition in topic.partitions:
                place = topic.name, partition.partition_index
                check(partition.error_code, f"offset of {topic.name}-{partition.partition_index}")
                found[place] = partition.offset
    return found


async def first_timestamps(
    client: Client, offsets: Mapping[Place, int], leader_of: Mapping[Place, int]
) -> dict[Place, int]:
    """The timestamp of the record at each offset, or of the first one after it; unreadable ones are left out."""
    found: dict[Place, int] = {}
    for node_id, topics in by_leader(offsets, leader_of).items():
        flat = [(name, index) for name, indexes in topics.items() for index in indexes]
        for first in range(0, len(flat), _CONCURRENT_PARTITIONS_PER_REQUEST):
            # Answers are bounded as a whole, so a partition may come back empty: it is asked again alone.
            part = flat[first : first + _CONCURRENT_PARTITIONS_PER_REQUEST]
            found |= await _fetch_timestamps(client, node_id, part, offsets)
            for place in part:
                if place not in found:
                    found |= await _fetch_timestamps(client, node_id, [place], offsets)
    return found


async def _fetch_timestamps(
    client: Client, node_id: int, places: Sequence[Place], offsets: Mapping[Place, int]
) -> dict[Place, int]:
    topics: dict[str, list[dict[str, int]]] = {}
    for name, index in places:
        topics.setdefault(name, []).append(
            {
                "partition": index,
                "current_leader_epoch": -1,
                "fetch_offset": offsets[name, index],
                "last_fetched_epoch": -1,
                "log_start_offset": -1,
                "partition_max_bytes": _FETCH_BYTES,
            }
        )
    body = {
        "replica_id": -1,
        "max_wait": 0,
        "min_bytes": 0,
        "max_bytes": 64 << 20,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{"topic": name, "partitions": partitions} for name, partitions in topics.items()],
        "forgotten_topics_data": [],
        "rack_id": "",
    }
    answer = await client.call_on(node_id, 1, body, 12)
    found = {}
    for topic in answer.responses:
        for partition in topic.partitions:
            place = topic.topic, partition.partition_index
            if partition.error_code == ErrorCode.NONE and place in offsets:
                timestamp = timestamp_at(partition.records, offsets[place])
                if timestamp is not None:
                    found[place] = timestamp
    return found


def timestamp_at(records: Any, offset: int) -> int | None:
    """The timestamp (ms) of the first record at or after `offset` in fetched bytes; None: there is no whole batch."""
    data = memoryview(records or b"")
    while len(data) >= 61:
        try:
            header = parse_batch_header(data)
        except InvalidBatch:
            return None
        if header.last_offset < offset:
            data = data[header.size_bytes :]
            continue
        if header.base_offset >= offset or header.is_log_append_time:
            return header.max_timestamp if header.is_log_append_time else header.base_timestamp
        if len(data) < header.size_bytes:
            return header.base_timestamp  # the batch is larger than what was asked for
        try:
            for record in iter_records(data[: header.size_bytes]):
                if record.offset >= offset:
                    return int(record.timestamp_ms)
        except InvalidBatch:
            return None
        data = data[header.size_bytes :]
    return None


async def coordinator_of(client: Client, group_id: str) -> int:
    """The broker that coordinates the group."""
    await client.metadata([])
    answer = await client.call(10, {"key": group_id, "key_type": 0}, 3)
    check(answer.error_code, f"coordinator of group {group_id}", field(answer, "error_message", None))
    return int(answer.node_id)


async def committed_offsets(client: Client, node_id: int, group_id: str) -> dict[Place, int]:
    """All committed offsets of the group."""
    answer = await client.call_on(node_id, 9, {"group_id": group_id, "topics": None, "require_stable": False}, 7)
    check(field(answer, "error_code", ErrorCode.NONE), f"offsets of group {group_id}")
    found = {}
    for topic in answer.topics:
        for partition in topic.partitions:
            check(partition.error_code, f"offset of group {group_id} in {topic.name}-{partition.partition_index}")
            if partition.committed_offset >= 0:
                found[topic.name, partition.partition_index] = partition.committed_offset
    return found


async def described_group(client: Client, node_id: int, group_id: str) -> Any:
    """The group as DescribeGroups gives it (version 5: no error for an unknown one, its state is Dead)."""
    body = {"groups": [group_id], "include_authorized_operations": False}
    answer = await client.call_on(node_id, 15, body, 5)
    (group,) = answer.groups
    check(group.error_code, f"group {group_id}")
    return group


async def listed_groups(client: Client) -> list[Any]:
    """The groups of all brokers, by id."""
    await client.metadata([])
    found = []
    for node_id in client.node_ids:
        answer = await client.call_on(node_id, 16, {"states_filter": [], "types_filter": []}, 4)
        check(answer.error_code, f"groups of broker {node_id}")
        found += list(answer.groups)
    return sorted(found, key=lambda group: group.group_id)


async def group_lag(client: Client, group_id: str, now_ms: int) -> tuple[Any, list[PartitionLag]]:
    """The described group, and its lag in every partition that it has committed or is assigned."""
    node_id = await coordinator_of(client, group_id)
    group = await described_group(client, node_id, group_id)
    committed = await committed_offsets(client, node_id, group_id)
    owners = assigned_places(group)
    places = sorted({*committed, *owners})
    if not places:
        if group.group_state == "Dead":
            raise ClientError(f"group {group_id} does not exist")
        return group, []
    leader_of = await leaders(client, [topic for topic, _ in places])
    ends = await offsets_at(client, places, LATEST, leader_of)
    unread = {place: offset for place, offset in committed.items() if ends.get(place, 0) > offset}
    times = await first_timestamps(client, unread, leader_of)
    rows = []
    for place in places:
        offset, end = committed.get(place), ends.get(place)
        records = max(end - offset, 0) if offset is not None and end is not None else None
        seconds: float | None = None
        if records == 0:
            seconds = 0.0
        elif place in times:
            seconds = max(now_ms - times[place], 0) / 1000
        member, client_id, host = owners.get(place, ("", "", ""))
        rows.append(PartitionLag(*place, offset, end, records, seconds, member, client_id, host))
    return group, rows


def assigned_places(group: Any) -> dict[Place, tuple[str, str, str]]:
    """Partition -> (member id, client id, host), from the assignments of a consumer group."""
    found: dict[Place, tuple[str, str, str]] = {}
    if group.protocol_type != "consumer":
        return found
    for member in group.members:
        for place in parse_assignment(bytes(member.member_assignment or b"")):
            found[place] = (member.member_id, member.client_id, member.client_host)
    return found


def parse_assignment(data: bytes) -> list[Place]:
    """The partitions of a ConsumerProtocolAssignment: version i16, then topics of (name, partition indexes)."""
    found: list[Place] = []
    if len(data) < 6:
        return found
    pos = 2

    def number(size: int) -> int:
        nonlocal pos
        value = int.from_bytes(data[pos : pos + size], "big", signed=True)
        pos += size
        return value

    for _ in range(number(4)):
        length = number(2)
        name = data[pos : pos + length].decode()
        pos += length
        found += [(name, number(4)) for _ in range(number(4))]
    return found
