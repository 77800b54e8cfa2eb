"""Heartbeat (key 12), versions 0 to 4: a member is alive; the answer tells it of a rebalance.

Behaviour: Kafka's; static members since version 3 (KIP-345). While the group is being loaded the answer is a plain
success, so that members do not fall out. Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import HeartbeatCommand
from protocol.messages import field

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    command = HeartbeatCommand(
        group_id=str(body.group_id),
        generation=int(body.generation_id),
        member_id=body.member_id,
        group_instance_id=field(body, "group_instance_id", None),
    )
    reply = await services.groups.heartbeat(command)
    return {"throttle_time": 0, "error_code": reply.error}
