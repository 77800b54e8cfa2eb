"""`weir groups`: list, describe with lag in records and in seconds, delete."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from broker.cli import reading
from broker.cli.client import Client, Refusal, check
from broker.cli.output import fail, print_json, print_records, print_table, say
from broker.cli.reading import PartitionLag
from broker.cli.resetting import reset_offsets
from broker.cli.running import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    AsJson,
    Bootstrap,
    Timeout,
    with_client,
)
from protocol.errors import ErrorCode
from protocol.messages import field

groups = typer.Typer(help="Consumer groups and their offsets.", no_args_is_help=True)
groups.command("reset-offsets")(reset_offsets)

GroupNames = Annotated[list[str], typer.Argument(metavar="GROUP...", help="Groups.")]


@groups.command("list")
def list_groups(
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, timeout: Timeout = DEFAULT_TIMEOUT_S, as_json: AsJson = False
) -> None:
    """List groups with their state."""
    found = with_client(bootstrap, timeout, reading.listed_groups)
    rows = [(group.group_id, field(group, "group_state", None), group.protocol_type) for group in found]
    print_records(("Group", "State", "Protocol"), rows, as_json=as_json)


@groups.command("describe")
def describe_groups(
    names: GroupNames,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Show members, committed offsets and lag, in records and in seconds.

    Seconds are the age of the first record that the group has not committed yet.
    """

    async def work(client: Client) -> list[tuple[Any, list[PartitionLag]]]:
        now_ms = time.time_ns() // 1_000_000
        return [await reading.group_lag(client, name, now_ms) for name in names]

    found = with_client(bootstrap, timeout, work)
    if as_json:
        print_json([_as_object(group, lags) for group, lags in found])
        return
    for group, lags in found:
        total = sum(each.records or 0 for each in lags)
        worst = max((each.seconds for each in lags if each.seconds is not None), default=0.0)
        say(f"{group.group_id}  {group.group_state}  {len(group.members)} members  lag {total} records, {worst:.1f} s")
        columns = ("Topic", "Partition", "Committed", "End offset", "Lag", "Lag s", "Member", "Client", "Host")
        if lags:
            print_table(columns, lags)


@groups.command("delete")
def delete_groups(
    names: GroupNames, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, timeout: Timeout = DEFAULT_TIMEOUT_S
) -> None:
    """Delete empty groups with their committed offsets."""

    async def work(client: Client) -> list[tuple[str, ErrorCode]]:
        results = []
        for name in names:
            node_id = await reading.coordinator_of(client, name)
            answer = await client.call_on(node_id, 42, {"groups_names": [name]})
            results += [(each.group_id, each.error_code) for each in answer.results]
        return results

    problems = []
    for name, code in with_client(bootstrap, timeout, work):
        if code == ErrorCode.NONE:
            say(f"deleted {name}")
        else:
            problems.append(str(Refusal(code, f"group {name}")))
    if problems:
        raise fail("\n".join(problems))


def _as_object(group: Any, lags: list[PartitionLag]) -> dict[str, Any]:
    check(group.error_code, f"group {group.group_id}")
    return {
        "group": group.group_id,
        "state": group.group_state,
        "protocol_type": group.protocol_type,
        "members": [
            {"member": each.member_id, "client": each.client_id, "host": each.client_host} for each in group.members
        ],
        "partitions": [lag._asdict() for lag in lags],
        "lag_records": sum(each.records or 0 for each in lags),
        "lag_seconds": max((each.seconds for each in lags if each.seconds is not None), default=0.0),
    }
