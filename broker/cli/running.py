"""How a command reaches a cluster: the shared options, one event loop per command, errors that read well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from broker.cli.client import Client, ClientError
from broker.cli.output import fail

T = TypeVar("T")

Bootstrap = Annotated[
    str,
    typer.Option("--bootstrap", "-b", envvar="WEIR_BOOTSTRAP", help="Address of a broker, host:port (several: comma)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for each answer.", min=0.1)]

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
DEFAULT_TIMEOUT_S = 10.0


def with_client(bootstrap: str, timeout_s: float, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a connected client; a ClientError ends the command with its text and exit code 1."""

    async def run() -> T:
        async with Client(bootstrap, timeout_s) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except ClientError as error:
        raise fail(str(error)) from None


def parse_pairs(items: list[str], option: str) -> dict[str, str]:
    """`key=value` items of an option; ends the command for anything else."""
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise fail(f"{option} {item}: expected key=value", 2)
        found[name.strip()] = value.strip()
    return found
