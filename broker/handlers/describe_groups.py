"""DescribeGroups (key 15), versions 0 to 6: state, protocol and members of classic groups.

Behaviour: a group that does not exist is Dead without an error before version 6, GROUP_ID_NOT_FOUND with a message
since (KIP-1043). Metadata and assignments are shown as the bytes they are; metadata only while the group is stable.
Authorized operations (version 3, KIP-430) are all of a group's while there is no authorizer.
Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from broker.groups.messages import DescribeCommand, DescribeReply
from protocol.errors import ErrorCode
from protocol.messages import field

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services

_READ, _DELETE, _DESCRIBE, _DESCRIBE_CONFIGS, _ALTER_CONFIGS = 3, 6, 8, 10, 11
GROUP_OPERATIONS = sum(1 << bit for bit in (_READ, _DELETE, _DESCRIBE, _DESCRIBE_CONFIGS, _ALTER_CONFIGS))
NOT_ASKED = -2_147_483_648


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    asked = bool(field(body, "include_authorized_operations", False))
    groups = []
    for group_id in body.groups:
        reply = await services.groups.describe(DescribeCommand(str(group_id), request.api_version))
        groups.append(_row(reply, show_operations=asked))
    return {"throttle_time": 0, "groups": groups}


def _row(reply: DescribeReply, *, show_operations: bool) -> dict[str, Any]:
    return {
        "error_code": reply.error,
        "error_message": reply.error_message,
        "group_id": reply.group_id,
        "group_state": reply.state,
        "protocol_type": reply.protocol_type,
        "protocol_data": reply.protocol,
        "members": [
            {
                "member_id": member.member_id,
                "group_instance_id": member.group_instance_id,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "member_metadata": member.metadata,
                "member_assignment": member.assignment,
            }
            for member in reply.members
        ],
        "authorized_operations": GROUP_OPERATIONS if show_operations and reply.error is ErrorCode.NONE else NOT_ASKED,
    }
