"""The options that name settings, shared by the commands that need the broker's own settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.output import fail
from broker.settings import Settings, SettingsError, load

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file with settings; default ./weir.toml if there is one.")
]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="One setting. Repeatable.")]


def settings_from(config: Path | None, options: list[str] | None, extra: dict[str, object] | None = None) -> Settings:
    """The effective settings; ends the command with code 2 and every problem when they cannot be used."""
    try:
        return load(file=config, environ=os.environ, options=options or (), extra=extra)
    except SettingsError as error:
        raise fail(str(error), 2) from None
