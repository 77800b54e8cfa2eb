"""OffsetFetch (key 9), versions 1 to 10: the committed offsets of one group, or of several since version 8 (KIP-709).

Behaviour: what was never committed is offset -1 without an error; null topics mean all (since version 2). Group errors
are the group's since version 8, the answer's since 2, each partition's before. Topics by id since version 10: an
unknown id is UNKNOWN_TOPIC_ID; offsets of topics that exist no more are left out of "all". The member id and epoch of
version 9 concern the newer group protocol and are not looked at for classic groups, as in Kafka.
Deliberate omissions: `require_stable` (KIP-447) changes nothing while there are no transactions: no offset is unstable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from broker.groups.messages import FetchCommand, FetchedPartition, FetchReply
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.cluster.image import ClusterImage
    from broker.request import Request
    from broker.services import Services

_TOP_LEVEL_ERROR_FROM_VERSION = 2
_BATCH_FROM_VERSION = 8
_BY_ID_FROM_VERSION = 10


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body, version = request.body, request.api_version
    if version >= _BATCH_FROM_VERSION:
        groups = [await _fetch(services, version, str(each.group_id), each.topics) for each in body.groups]
        return {"throttle_time": 0, "groups": groups}
    group = await _fetch(services, version, str(body.group_id), body.topics)
    error = group["error_code"]
    topics = [{"name": each["name"], "partitions": each["partitions"]} for each in group["topics"]]
    if error is not ErrorCode.NONE and version < _TOP_LEVEL_ERROR_FROM_VERSION:
        topics = [_refused_topic(each, error) for each in body.topics]
    return {"throttle_time": 0, "topics": topics, "error_code": error}


def _refused_topic(asked: Any, error: ErrorCode) -> dict[str, Any]:
    rows = [_row(FetchedPartition(int(index), error=error)) for index in asked.partition_indexes]
    return {"name": str(asked.name), "partitions": rows}


async def _fetch(services: Services, version: int, group_id: str, asked: Sequence[Any] | None) -> dict[str, Any]:
    image = services.image
    by_id = version >= _BY_ID_FROM_VERSION
    unknown: list[dict[str, Any]] = []
    topics: list[tuple[str, UUID | None, list[int]]] | None = None if asked is None else []
    for each in asked or ():
        partitions = [int(index) for index in each.partition_indexes]
        if by_id:
            known = None if each.topic_id is None else image.topic_by_id(each.topic_id)
            if known is None:
                rows = [_row(FetchedPartition(index, error=ErrorCode.UNKNOWN_TOPIC_ID)) for index in partitions]
                unknown.append({"name": "", "topic_id": each.topic_id, "partitions": rows})
                continue
            name = known.name
        else:
            name = str(each.name)
            known = image.topic(name)
        if topics is not None:
            topics.append((name, None if known is None else known.topic_id, partitions))
    reply = await services.groups.fetch(FetchCommand(group_id, topics))
    rows = [] if reply.error is not ErrorCode.NONE else [*_found(image, by_id, asked is None, reply), *unknown]
    return {"group_id": group_id, "topics": rows, "error_code": reply.error}


def _found(image: ClusterImage, by_id: bool, everything: bool, reply: FetchReply) -> list[dict[str, Any]]:
    rows = []
    for name, topic_id, partitions in reply.topics:
        known = image.topic(name)
        current_id = None if known is None else known.topic_id
        if everything and (topic_id is not None and current_id is not None and topic_id != current_id):
            continue  # the offsets of an earlier topic of this name
        if by_id and topic_id is None:
            topic_id = current_id
        if by_id and everything and topic_id is None:
            continue
        rows.append({"name": name, "topic_id": topic_id, "partitions": [_row(each) for each in partitions]})
    return rows


def _row(part: FetchedPartition) -> dict[str, Any]:
    return {
        "partition_index": part.partition,
        "committed_offset": part.offset,
        "committed_leader_epoch": part.leader_epoch,
        "metadata": part.metadata,
        "error_code": part.error,
    }
