"""LeaveGroup (key 13), versions 0 to 5: members leave, or an administrator removes static ones by instance id.

Behaviour: Kafka's; batches with a result per member since version 3 (KIP-345), before that the one member's error is
the request's; reasons since 5 (KIP-800, not kept). Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import LeaveCommand
from protocol.errors import ErrorCode
from protocol.messages import field

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services

_BATCH_FROM_VERSION = 3


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    batch = request.api_version >= _BATCH_FROM_VERSION
    if batch:
        members = [(each.member_id, each.group_instance_id, field(each, "reason", None)) for each in body.members]
    else:
        members = [(body.member_id, None, None)]
    reply = await services.groups.leave(LeaveCommand(str(body.group_id), members))
    error = reply.error
    if not batch and error is ErrorCode.NONE and reply.members:
        error = reply.members[0][2]
    return {
        "throttle_time": 0,
        "error_code": error,
        "members": [
            {"member_id": member_id, "group_instance_id": instance_id, "error_code": member_error}
            for member_id, instance_id, member_error in reply.members
        ],
    }
