"""OffsetDelete (key 47), version 0: drop committed offsets of topics that the group no longer reads (KIP-496).

Behaviour: topics that a member subscribes to are refused with GROUP_SUBSCRIBED_TO_TOPIC; a group with members of
another protocol type is NON_EMPTY_GROUP, an unknown one GROUP_ID_NOT_FOUND, an empty id INVALID_GROUP_ID,
for the whole request.
Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import DeleteOffsetsCommand
from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body, image = request.body, services.image
    answers: dict[str, dict[int, ErrorCode]] = {}
    topics = []
    for asked in body.topics:
        name = str(asked.name)
        known = image.topic(name)
        count = 0 if known is None else known.partition_count
        verdicts = answers.setdefault(name, {})
        wanted = [int(part.partition_index) for part in asked.partitions]
        for index in wanted:
            verdicts[index] = ErrorCode.NONE if 0 <= index < count else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if existing := [index for index in wanted if 0 <= index < count]:
            topics.append((name, existing))
    # Asked even when no partition is left: an unknown group outweighs unknown topics.
    reply = await services.groups.delete_offsets(DeleteOffsetsCommand(str(body.group_id), topics))
    for name, decided in reply.topics:
        answers[name].update(decided)
    if reply.error is not ErrorCode.NONE:
        answers.clear()
    rows = [
        {"name": name, "partitions": [{"partition_index": index, "error_code": each} for index, each in parts.items()]}
        for name, parts in answers.items()
    ]
    return {"throttle_time": 0, "error_code": reply.error, "topics": rows}
