"""DescribeGroups and ListGroups: read-only views of live groups, as Kafka words them."""

from __future__ import annotations

from broker.groups.classic_group import ClassicGroup, GroupState
from broker.groups.messages import DescribeCommand, DescribedMember, DescribeReply, ListCommand, ListedGroup, ListReply
from broker.groups.table import GroupTable
from protocol.errors import ErrorCode

CLASSIC = "classic"


def describe(table: GroupTable, command: DescribeCommand) -> DescribeReply:
    group = table.groups.get(command.group_id)
    if group is None:
        if command.api_version >= 6:
            return DescribeReply(
                command.group_id,
                ErrorCode.GROUP_ID_NOT_FOUND,
                f"Group {command.group_id} not found.",
                GroupState.DEAD.value,
            )
        return DescribeReply(command.group_id, state=GroupState.DEAD.value)
    stable = group.state is GroupState.STABLE
    return DescribeReply(
        command.group_id,
        state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol=(group.protocol or "") if stable else "",
        members=tuple(
            DescribedMember(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host,
                member.metadata(group.protocol) if stable else b"",
                member.assignment,
            )
            for member in group.members.values()
        ),
    )


def list_groups(table: GroupTable, command: ListCommand) -> ListReply:
    """Filters compare without case; an unknown state or type matches nothing."""
    states = {state.lower() for state in command.states}
    types = {kind.lower() for kind in command.types}
    if types and CLASSIC not in types:
        return ListReply()
    return ListReply(
        groups=tuple(
            _listed(group) for group in table.groups.values() if not states or group.state.value.lower() in states
        )
    )


def _listed(group: ClassicGroup) -> ListedGroup:
    return ListedGroup(group.group_id, group.protocol_type or "", group.state.value, CLASSIC)
