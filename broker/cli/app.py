"""The `weir` command line: `serve` and `config` here, administration in the modules of the sub-commands.

Further sub-commands come from other packages through the entry point group `weir.commands`: each names a `typer.Typer`
that is mounted under the entry point's name. A sub-command is loaded only when it is asked for: a broker must be up in
well under a second, and half of that is imports.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from broker.cli.output import fail, print_json, print_table
from broker.cli.sources import ConfigFile, Set, settings_from
from broker.settings.keys import BadValue, parse_listener
from broker.settings.show import documentation, effective

COMMANDS = "weir.commands"

app = typer.Typer(
    name="weir",
    help="A Kafka-protocol log broker on object storage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
OWN_COMMANDS = ("serve", "config")
SUB_COMMANDS = ("topics", "groups", "configs", "objects")
"""Each in the module of its name, as a `typer.Typer` of its name."""


@app.command()
def serve(
    config: ConfigFile = None,
    options: Set = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Short for --set data.dir=...")] = None,
    listen: Annotated[str | None, typer.Option("--listen", help="host:port; short for --set listeners=...")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Short for --set store.url=...")] = None,
) -> None:
    """Run a broker until SIGINT or SIGTERM."""
    from broker.cli.serve import run_broker  # loads the engine; the other commands start faster without

    extra: dict[str, object] = {}
    if data_dir is not None:
        extra["data.dir"] = data_dir
    if store is not None:
        extra["store.url"] = store
    if listen is not None:
        extra["listeners"] = _listener(listen)
    raise typer.Exit(run_broker(settings_from(config, options, extra)))


@app.command()
def config(
    config: ConfigFile = None,
    options: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    docs: Annotated[bool, typer.Option("--docs", help="Print what every setting means, as Markdown.")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what has its default.")] = False,
) -> None:
    """Print the effective settings and where each value comes from."""
    if docs:
        sys.stdout.write(documentation())
        return
    shown = effective(settings_from(config, options))
    if changed:
        shown = [each for each in shown if each.source != "default"]
    if as_json:
        print_json({each.name: {"value": each.value, "source": each.source} for each in shown})
    else:
        print_table(("Setting", "Value", "Source"), [(each.name, each.text, each.source) for each in shown])


def _listener(text: str) -> str:
    listener = f"PLAINTEXT://{text}"
    try:
        parse_listener(listener)
    except BadValue:
        raise fail(f"--listen {text}: expected host:port", 2) from None
    return listener


def mount(wanted: str | None) -> typer.Typer:
    """`app` with the sub-command `wanted`; with all of them, other packages' too, when it is none of ours."""
    if wanted not in OWN_COMMANDS:
        mounted = [group.name for group in app.registered_groups]
        for name in SUB_COMMANDS:
            if name not in mounted and (wanted == name or wanted not in SUB_COMMANDS):
                app.add_typer(getattr(import_module(f"broker.cli.{name}"), name), name=name)
        if wanted not in SUB_COMMANDS:
            from importlib.metadata import entry_points  # costs a tenth of a second

            for entry in entry_points(group=COMMANDS):
                if entry.name not in mounted:
                    app.add_typer(entry.load(), name=entry.name)
    return app


def main() -> None:
    """The entry point of the `weir` command."""
    mount(next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None))()
