"""DeleteGroups (key 42), versions 0 to 2: delete groups without members, with their offsets (KIP-229).

Behaviour: NON_EMPTY_GROUP while it has members, GROUP_ID_NOT_FOUND when there is no such group; one result per distinct
group id. Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import DeleteGroupCommand

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    results = []
    for group_id in dict.fromkeys(str(each) for each in request.body.groups_names):
        reply = await services.groups.delete_group(DeleteGroupCommand(group_id))
        results.append({"group_id": group_id, "error_code": reply.error})
    return {"throttle_time": 0, "results": results}
