"""ListGroups (key 16), versions 0 to 5: the groups that this broker coordinates.

Behaviour: filters by state since version 4 (KIP-518) and by type since 5 (KIP-848), without regard to case; an unknown
state or type matches nothing. While a partition is being loaded: COORDINATOR_LOAD_IN_PROGRESS.
Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import ListCommand
from protocol.messages import field

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    command = ListCommand(tuple(field(body, "states_filter", ())), tuple(field(body, "types_filter", ())))
    reply = await services.groups.list_groups(command)
    return {
        "throttle_time": 0,
        "error_code": reply.error,
        "groups": [
            {
                "group_id": group.group_id,
                "protocol_type": group.protocol_type,
                "group_state": group.state,
                "group_type": group.group_type,
            }
            for group in reply.groups
        ],
    }
