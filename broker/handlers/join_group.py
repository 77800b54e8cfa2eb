"""JoinGroup (key 11), versions 0 to 9: become or stay a member; answered when the join phase ends.

Behaviour: Kafka's classic group protocol, eager and cooperative (the coordinator does not tell them apart). Static
members since version 5 (KIP-345), member id required since version 4 (KIP-394), protocol type in the answer since
version 7 (KIP-559), reasons since 8 (KIP-800, not kept), skipped assignment since 9 (KIP-814). Version 0 has no
rebalance timeout: the session timeout is used. Errors are those of Kafka's GroupCoordinatorService.
Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import JoinCommand
from protocol.messages import duration_ms, field

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services

_KNOWN_MEMBER_ID_FROM_VERSION = 4
_NULL_PROTOCOL_FROM_VERSION = 7
_SKIP_ASSIGNMENT_FROM_VERSION = 9


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    reply = await services.groups.join(_command(request))
    name = reply.protocol_name
    return {
        "throttle_time": 0,
        "error_code": reply.error,
        "generation_id": reply.generation,
        "protocol_type": reply.protocol_type,
        "protocol_name": "" if name is None and request.api_version < _NULL_PROTOCOL_FROM_VERSION else name,
        "leader": reply.leader,
        "skip_assignment": reply.skip_assignment,
        "member_id": reply.member_id,
        "members": [
            {"member_id": member_id, "group_instance_id": instance_id, "metadata": metadata}
            for member_id, instance_id, metadata in reply.members
        ],
    }


def _command(request: Request) -> JoinCommand:
    body, version = request.body, request.api_version
    session_timeout_ms = duration_ms(body.session_timeout)
    rebalance_timeout = field(body, "rebalance_timeout", None)
    protocols: dict[str, bytes] = {}
    for protocol in body.protocols:
        protocols.setdefault(str(protocol.name), protocol.metadata)
    return JoinCommand(
        group_id=str(body.group_id),
        member_id=body.member_id,
        group_instance_id=field(body, "group_instance_id", None),
        client_id=request.client_id or "",
        client_host=f"/{request.client_host}",
        session_timeout_ms=session_timeout_ms,
        rebalance_timeout_ms=session_timeout_ms if rebalance_timeout is None else duration_ms(rebalance_timeout),
        protocol_type=body.protocol_type,
        protocols=tuple(protocols.items()),
        requires_known_member_id=version >= _KNOWN_MEMBER_ID_FROM_VERSION,
        supports_skipping_assignment=version >= _SKIP_ASSIGNMENT_FROM_VERSION,
        reason=field(body, "reason", None),
    )
