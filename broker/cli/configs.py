"""`weir configs`: list what differs from the defaults, describe one resource, alter it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from broker.cli.client import Client, check
from broker.cli.output import fail, print_records, say
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

configs = typer.Typer(help="Configs of topics and brokers.", no_args_is_help=True)

SOURCES = {
    1: "topic",
    2: "broker (dynamic)",
    3: "all brokers (dynamic)",
    4: "broker (static)",
    5: "default",
}
_TOPICS_PER_REQUEST = 500
_SET, _DELETE, _APPEND, _SUBTRACT = range(4)


class Kind(enum.StrEnum):
    """What has configs."""

    topic = "topic"
    broker = "broker"


_TYPES = {Kind.topic: 2, Kind.broker: 4}

KindArgument = Annotated[Kind, typer.Argument(metavar="topic|broker")]
ResourceArgument = Annotated[
    str, typer.Argument(metavar="[NAME]", help="Topic name, or broker number (none: all brokers).")
]


@configs.command("list")
def list_configs(
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, timeout: Timeout = DEFAULT_TIMEOUT_S, as_json: AsJson = False
) -> None:
    """List every config that was set on a topic or, while running, on brokers."""

    async def work(client: Client) -> list[tuple[str, str, str, str | None]]:
        answer = await client.metadata()
        names = sorted(topic.name for topic in answer.topics)
        rows = []
        for first in range(0, len(names), _TOPICS_PER_REQUEST):
            part = names[first : first + _TOPICS_PER_REQUEST]
            for result in (await client.call(32, _question([(2, name) for name in part]))).results:
                if result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                    continue  # deleted meanwhile
                check(result.error_code, f"topic {result.resource_name}", result.error_message)
                rows += [
                    _row("topic", result.resource_name, each) for each in result.configs if each.config_source == 1
                ]
        for name in ["", *(str(node_id) for node_id in client.node_ids)]:
            source = 3 if name == "" else 2
            found = await _describe(client, 4, name)
            rows += [_row("broker", name or "(all)", each) for each in found if each.config_source == source]
        return rows

    rows = with_client(bootstrap, timeout, work)
    print_records(("Resource", "Name", "Config", "Value"), rows, as_json=as_json)


@configs.command("describe")
def describe_configs(
    kind: KindArgument,
    name: ResourceArgument = "",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    documentation: Annotated[bool, typer.Option("--docs", help="Add what each config means.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the effective configs of a topic or broker, and where each value comes from."""

    async def work(client: Client) -> list[Any]:
        if kind is Kind.broker and name:
            await client.metadata([])
        return await _describe(client, _TYPES[kind], name, documentation=documentation)

    found = sorted(with_client(bootstrap, timeout, work), key=lambda config: config.name)
    columns = ["Config", "Value", "Source", "Read only"]
    rows: list[list[object]] = []
    for config in found:
        value = "(hidden)" if config.is_sensitive else config.value
        rows.append([config.name, value, SOURCES.get(config.config_source, "other"), bool(config.read_only)])
        if documentation:
            rows[-1].append(field(config, "documentation", None))
    if documentation:
        columns.append("Meaning")
    print_records(columns, rows, as_json=as_json)


@configs.command("alter")
def alter_configs(
    kind: KindArgument,
    name: ResourceArgument = "",
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    put: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    delete: Annotated[list[str] | None, typer.Option("--delete", metavar="KEY", help="Back to the default.")] = None,
    append: Annotated[list[str] | None, typer.Option("--append", metavar="KEY=ITEM", help="Add to a list.")] = None,
    subtract: Annotated[
        list[str] | None, typer.Option("--subtract", metavar="KEY=ITEM", help="Take from a list.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only.")] = False,
) -> None:
    """Change single configs; in force at once."""
    changes = [(key, _SET, value) for key, value in parse_pairs(put or [], "--set").items()]
    changes += [(key, _APPEND, value) for key, value in parse_pairs(append or [], "--append").items()]
    changes += [(key, _SUBTRACT, value) for key, value in parse_pairs(subtract or [], "--subtract").items()]
    operations: list[dict[str, Any]] = [
        {"name": key, "config_operation": operation, "value": value} for key, operation, value in changes
    ]
    operations += [{"name": key, "config_operation": _DELETE, "value": None} for key in delete or []]
    if not operations:
        raise fail("nothing to do: give --set, --delete, --append or --subtract", 2)

    async def work(client: Client) -> None:
        resource = {"resource_type": _TYPES[kind], "resource_name": name, "configs": operations}
        body = {"resources": [resource], "validate_only": dry_run}
        answer = await _call(client, _TYPES[kind], name, 44, body)
        (response,) = answer.responses
        check(response.error_code, f"{kind} {name or '(all)'}", response.error_message)

    with_client(bootstrap, timeout, work)
    say("valid, nothing changed" if dry_run else "altered")


def _row(kind: str, name: str, config: Any) -> tuple[str, str, str, str | None]:
    return kind, name, config.name, config.value


def _question(resources: Sequence[tuple[int, str]], *, documentation: bool = False) -> dict[str, Any]:
    """A DescribeConfigs request for all configs of the resources (type, name)."""
    asked = [{"resource_type": kind, "resource_name": name, "configuration_keys": None} for kind, name in resources]
    return {"resources": asked, "include_synonyms": False, "include_documentation": documentation}


async def _describe(client: Client, kind: int, name: str, *, documentation: bool = False) -> list[Any]:
    body = _question([(kind, name)], documentation=documentation)
    (result,) = (await _call(client, kind, name, 32, body)).results
    check(result.error_code, f"{'topic' if kind == 2 else 'broker'} {name}", result.error_message)
    return list(result.configs)


async def _call(client: Client, kind: int, name: str, api_key: int, body: dict[str, Any]) -> Any:
    """A broker answers for itself only."""
    if kind == 4 and name.isdigit():
        if int(name) not in client.node_ids:
            await client.metadata([])
        return await client.call_on(int(name), api_key, body)
    return await client.call(api_key, body)
