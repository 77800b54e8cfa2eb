"""`weir topics`: list, create, describe, grow, delete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from broker.cli import reading
from broker.cli.client import Client, Refusal, check
from broker.cli.output import fail, print_json, print_records, print_table, say
from broker.cli.running import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    AsJson,
    Bootstrap,
    Timeout,
    parse_pairs,
    with_client,
)
from protocol.errors import ErrorCode
from protocol.messages import field

topics = typer.Typer(help="Topics of a cluster.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Topics.")]


@topics.command("list")
def list_topics(
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    internal: Annotated[bool, typer.Option("--internal", help="Include internal topics.")] = False,
    as_json: AsJson = False,
) -> None:
    """List topics with their partitions and replication factor."""

    async def work(client: Client) -> list[Any]:
        return list((await client.metadata()).topics)

    found = sorted(with_client(bootstrap, timeout, work), key=lambda topic: topic.name)
    rows = [
        (topic.name, len(topic.partitions), _factor(topic), bool(topic.is_internal))
        for topic in found
        if internal or not topic.is_internal
    ]
    print_records(("Topic", "Partitions", "Replication factor", "Internal"), rows, as_json=as_json)


@topics.command("create")
def create_topics(
    names: Names,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    partitions: Annotated[int, typer.Option("--partitions", "-p", help="-1: the broker's default.")] = -1,
    replication_factor: Annotated[int, typer.Option("--replication-factor", help="-1: the broker's default.")] = -1,
    config: Annotated[list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE")] = None,
    if_not_exists: Annotated[bool, typer.Option("--if-not-exists", help="Existing topics are no error.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create topics."""
    configs = [{"name": name, "value": value} for name, value in parse_pairs(config or [], "--config").items()]
    asked = [
        {
            "name": name,
            "num_partitions": partitions,
            "replication_factor": replication_factor,
            "assignments": [],
            "configs": configs,
        }
        for name in names
    ]

    async def work(client: Client) -> list[Any]:
        body = {"topics": asked, "timeout": int(timeout * 1000), "validate_only": False}
        answer = await client.call(19, body)
        allowed = (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS) if if_not_exists else (ErrorCode.NONE,)
        for topic in answer.topics:
            if topic.error_code not in allowed:
                raise Refusal(topic.error_code, f"topic {topic.name}", topic.error_message)
        return list(answer.topics)

    rows = [
        (topic.name, topic.error_code == ErrorCode.NONE, field(topic, "num_partitions", -1))
        for topic in with_client(bootstrap, timeout, work)
    ]
    if as_json:
        print_records(("Topic", "Created", "Partitions"), rows, as_json=True)
        return
    for name, created, count in rows:
        say(f"created {name} with {count} partitions" if created else f"{name} exists already")


@topics.command("describe")
def describe_topics(
    names: Names,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Show partitions with leaders and offsets, and the configs that differ from the defaults."""

    async def work(client: Client) -> list[dict[str, Any]]:
        answer = await client.metadata(names)
        for topic in answer.topics:
            check(topic.error_code, f"topic {topic.name}")
        places = [(topic.name, each.partition_index) for topic in answer.topics for each in topic.partitions]
        leader_of = {
            (topic.name, each.partition_index): each.leader_id
            for topic in answer.topics
            for each in topic.partitions
            if each.leader_id >= 0
        }
        starts = await reading.offsets_at(client, places, reading.EARLIEST, leader_of)
        ends = await reading.offsets_at(client, places, reading.LATEST, leader_of)
        resources = [{"resource_type": 2, "resource_name": name, "configuration_keys": None} for name in names]
        body = {"resources": resources, "include_synonyms": False, "include_documentation": False}
        described = {each.resource_name: each for each in (await client.call(32, body)).results}
        return [_described(topic, described[topic.name], starts, ends) for topic in answer.topics]

    found = with_client(bootstrap, timeout, work)
    if as_json:
        print_json(found)
        return
    for topic in found:
        configs = " ".join(f"{name}={value}" for name, value in topic["configs"].items()) or "-"
        say(f"{topic['topic']}  id {topic['topic_id']}  replication factor {topic['replication_factor']}  {configs}")
        columns = ("Partition", "Leader", "Epoch", "Start offset", "End offset", "Records")
        rows = [tuple(each.values()) for each in topic["partitions"]]
        print_table(columns, rows)


@topics.command("grow")
def grow_topic(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    partitions: Annotated[int, typer.Argument(metavar="PARTITIONS", help="The number in all.")],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    """Give a topic more partitions. Keys map to other partitions afterwards."""

    async def work(client: Client) -> None:
        asked = [{"name": name, "count": partitions, "assignments": None}]
        body = {"topics": asked, "timeout": int(timeout * 1000), "validate_only": False}
        (result,) = (await client.call(37, body)).results
        check(result.error_code, f"topic {name}", result.error_message)

    with_client(bootstrap, timeout, work)
    say(f"{name} has {partitions} partitions")


@topics.command("delete")
def delete_topics(
    names: Names,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    if_exists: Annotated[bool, typer.Option("--if-exists", help="Missing topics are no error.")] = False,
) -> None:
    """Delete topics and everything in them."""

    async def work(client: Client) -> list[tuple[str, ErrorCode, str | None]]:
        body = {"topic_names": names, "timeout": int(timeout * 1000)}
        answer = await client.call(20, body, 5)
        return [(each.name, each.error_code, field(each, "error_message", None)) for each in answer.responses]

    problems = []
    for name, code, message in with_client(bootstrap, timeout, work):
        if code == ErrorCode.NONE:
            say(f"deleted {name}")
        elif code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and if_exists:
            say(f"{name} does not exist")
        else:
            problems.append(str(Refusal(code, f"topic {name}", message)))
    if problems:
        raise fail("\n".join(problems))


def _factor(topic: Any) -> int:
    return len(topic.partitions[0].replica_nodes) if topic.partitions else 0


def _described(topic: Any, configs: Any, starts: dict[Any, int], ends: dict[Any, int]) -> dict[str, Any]:
    check(configs.error_code, f"configs of {topic.name}", configs.error_message)
    partitions = []
    for each in sorted(topic.partitions, key=lambda partition: partition.partition_index):
        place = topic.name, each.partition_index
        start, end = starts.get(place), ends.get(place)
        partitions.append(
            {
                "partition": each.partition_index,
                "leader": each.leader_id if each.leader_id >= 0 else None,
                "leader_epoch": field(each, "leader_epoch", -1),
                "start_offset": start,
                "end_offset": end,
                "records": end - start if start is not None and end is not None else None,
            }
        )
    topic_id = field(topic, "topic_id", None)
    return {
        "topic": topic.name,
        "topic_id": str(topic_id) if topic_id is not None else None,
        "internal": bool(topic.is_internal),
        "replication_factor": _factor(topic),
        "configs": {each.name: each.value for each in configs.configs if each.config_source == 1},
        "partitions": partitions,
    }
