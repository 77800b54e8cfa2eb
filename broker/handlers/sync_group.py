"""SyncGroup (key 14), versions 0 to 5: the leader brings the assignment, everyone gets theirs once it is stored.

Behaviour: Kafka's classic group protocol; static members since version 3 (KIP-345). Since version 5 the protocol type
and name must be there and match the group's (KIP-559), else INCONSISTENT_GROUP_PROTOCOL.
Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import SyncCommand, SyncReply
from protocol.errors import ErrorCode
from protocol.messages import field

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services

_PROTOCOL_REQUIRED_FROM_VERSION = 5


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    command = SyncCommand(
        group_id=str(body.group_id),
        generation=int(body.generation_id),
        member_id=body.member_id,
        group_instance_id=field(body, "group_instance_id", None),
        protocol_type=field(body, "protocol_type", None),
        protocol_name=field(body, "protocol_name", None),
        assignments=[(each.member_id, each.assignment) for each in body.assignments],
    )
    unnamed = command.protocol_type is None or command.protocol_name is None
    if unnamed and request.api_version >= _PROTOCOL_REQUIRED_FROM_VERSION:
        reply = SyncReply(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    else:
        reply = await services.groups.sync(command)
    return {
        "throttle_time": 0,
        "error_code": reply.error,
        "protocol_type": reply.protocol_type,
        "protocol_name": reply.protocol_name,
        "assignment": reply.assignment,
    }
