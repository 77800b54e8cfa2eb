"""`weir groups reset-offsets`: where a group goes on reading. Shows the plan; `--execute` carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, NamedTuple

import typer

from broker.cli import reading
from broker.cli.client import Client, ClientError, check
from broker.cli.output import fail, print_records, say
from broker.cli.reading import Place
from broker.cli.running import DEFAULT_BOOTSTRAP, DEFAULT_TIMEOUT_S, AsJson, Bootstrap, Timeout, with_client


class Target(NamedTuple):
    """Where to: exactly one of them is set."""

    earliest: bool = False
    latest: bool = False
    offset: int | None = None
    shift: int | None = None
    timestamp_ms: int | None = None


class Move(NamedTuple):
    """One line of the plan."""

    topic: str
    partition: int
    committed: int | None
    new_offset: int


def reset_offsets(
    group: Annotated[str, typer.Argument(metavar="GROUP")],
    topic: Annotated[
        list[str] | None, typer.Option("--topic", "-t", help="name, or name:0,1 for some partitions. Repeatable.")
    ] = None,
    all_topics: Annotated[
        bool, typer.Option("--all-topics", help="Every topic that the group has offsets of.")
    ] = False,
    to_earliest: Annotated[bool, typer.Option("--to-earliest")] = False,
    to_latest: Annotated[bool, typer.Option("--to-latest")] = False,
    to_offset: Annotated[int | None, typer.Option("--to-offset")] = None,
    shift_by: Annotated[int | None, typer.Option("--shift-by", help="Records, negative to read again.")] = None,
    to_datetime: Annotated[
        str | None, typer.Option("--to-datetime", help="ISO 8601; without a zone it is local time.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Commit the plan, do not only show it.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Move the committed offsets of a group that has no members."""
    chosen = [to_earliest, to_latest, to_offset is not None, shift_by is not None, to_datetime is not None]
    if sum(chosen) != 1:
        wanted = "--to-earliest, --to-latest, --to-offset, --shift-by and --to-datetime"
        raise fail(f"expected exactly one of {wanted}", 2)
    if bool(topic) == all_topics:
        raise fail("expected either --topic or --all-topics", 2)
    target = Target(to_earliest, to_latest, to_offset, shift_by, _milliseconds(to_datetime))
    scope = None if all_topics else [_parse_scope(item) for item in topic or []]

    async def work(client: Client) -> list[Move]:
        return await _reset(client, group, scope, target, execute=execute)

    moves = with_client(bootstrap, timeout, work)
    print_records(("Topic", "Partition", "Committed", "New offset"), moves, as_json=as_json)
    if not as_json:
        say("committed" if execute else "this is the plan; --execute carries it out")


async def _reset(
    client: Client, group: str, scope: Sequence[tuple[str, list[int] | None]] | None, target: Target, *, execute: bool
) -> list[Move]:
    node_id = await reading.coordinator_of(client, group)
    state = (await reading.described_group(client, node_id, group)).group_state
    if execute and state not in ("Empty", "Dead"):
        raise ClientError(f"group {group} is {state}: its offsets can move when it has no members")
    committed = await reading.committed_offsets(client, node_id, group)
    names = sorted({name for name, _ in committed}) if scope is None else [name for name, _ in scope]
    leader_of = await reading.leaders(client, names)
    places = _places(scope, committed, leader_of)
    if not places:
        raise ClientError(f"group {group} has no offsets there, and no partition was named")
    starts = await reading.offsets_at(client, places, reading.EARLIEST, leader_of)
    ends = await reading.offsets_at(client, places, reading.LATEST, leader_of)
    times: Mapping[Place, int] = {}
    if target.timestamp_ms is not None:
        times = await reading.offsets_at(client, places, target.timestamp_ms, leader_of)
    moves = [
        Move(
            *place, committed.get(place), new_offset(target, committed.get(place), start, ends[place], times.get(place))
        )
        for place, start in starts.items()
    ]
    if execute:
        await _commit(client, node_id, group, moves)
    return moves


def new_offset(target: Target, committed: int | None, start: int, end: int, at_time: int | None) -> int:
    """Within `[start, end]`. A shift without a committed offset counts from the start; a time after the last record
    (`at_time` -1) is the end (pure)."""
    if target.earliest:
        return start
    if target.latest:
        return end
    if target.offset is not None:
        wanted = target.offset
    elif target.shift is not None:
        wanted = (committed if committed is not None else start) + target.shift
    else:
        wanted = at_time if at_time is not None and at_time >= 0 else end
    return min(max(wanted, start), end)


def _places(
    scope: Sequence[tuple[str, list[int] | None]] | None,
    committed: Mapping[Place, int],
    leader_of: Mapping[Place, int],
) -> list[Place]:
    """The partitions that are meant: those named, or all of the topic; ClientError for one that does not exist."""
    if scope is None:
        return sorted(place for place in committed if place in leader_of)
    found: list[Place] = []
    for name, indexes in scope:
        known = sorted(index for topic, index in leader_of if topic == name)
        if not known:
            raise ClientError(f"topic {name} does not exist")
        missing = [index for index in indexes or [] if index not in known]
        if missing:
            raise ClientError(f"topic {name} has no partition {missing[0]}")
        found += [(name, index) for index in (known if indexes is None else indexes)]
    return sorted(set(found))


async def _commit(client: Client, node_id: int, group: str, moves: Sequence[Move]) -> None:
    topics: dict[str, list[dict[str, object]]] = {}
    for move in moves:
        topics.setdefault(move.topic, []).append(
            {
                "partition_index": move.partition,
                "committed_offset": move.new_offset,
                "committed_leader_epoch": -1,
                "committed_metadata": "",
            }
        )
    body = {
        "group_id": group,
        "generation_id_or_member_epoch": -1,
        "member_id": "",
        "group_instance_id": None,
        "retention_time": -1,
        "topics": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
    }
    answer = await client.call_on(node_id, 8, body, 9)
    for topic in answer.topics:
        for partition in topic.partitions:
            check(partition.error_code, f"offset of {topic.name}-{partition.partition_index}")


def _parse_scope(item: str) -> tuple[str, list[int] | None]:
    name, colon, indexes = item.partition(":")
    if not colon:
        return name, None
    if not all(each.strip().isdigit() for each in indexes.split(",")):
        raise fail(f"--topic {item}: expected name or name:0,1", 2)
    return name, [int(each) for each in indexes.split(",")]


def _milliseconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise fail(f"--to-datetime {text}: expected ISO 8601 such as 2026-01-31T10:00:00Z", 2) from None
