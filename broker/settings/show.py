"""How settings are shown: the effective ones with their source, and the table of all of them for the documentation."""

from __future__ import annotations

from typing import Any, NamedTuple

from broker.settings.keys import Setting
from broker.settings.schema import SECTIONS, SETTINGS, Settings

HIDDEN = "(hidden)"


class Shown(NamedTuple):
    """One effective setting, secrets redacted. `text` is None when it is not set."""

    name: str
    text: str | None
    value: Any
    source: str


def effective(settings: Settings) -> list[Shown]:
    """Every setting with its value and where that comes from."""
    return [_shown(setting, settings) for setting in SETTINGS.values()]


def _shown(setting: Setting, settings: Settings) -> Shown:
    value = settings.value(setting.name)
    text = setting.text(value)
    if setting.key.secret and value is not None:
        value = text = HIDDEN
    if isinstance(value, tuple):
        value = [str(item) for item in value]
    return Shown(setting.name, text, value, str(settings.source(setting.name)))


_INTRODUCTION = """\
# Settings

From four sources, of which a later one wins: defaults, a TOML file (`--config`, `WEIR_CONFIG` or `./weir.toml`), the
environment (`WEIR_LOG_RETENTION_MS`), options (`--set log.retention.ms=...`). Unknown names are errors. `weir config`
prints the effective values and where each comes from. Numbers of bytes may be written with `KiB`, `MiB` or `GiB`.
Settings marked *dynamic* can also be changed while the broker runs, by AlterConfigs (`weir configs alter broker`).
Names that Apache Kafka has mean what they mean there.

This page is printed by `weir config --docs`.
"""


def documentation() -> str:
    """The settings as Markdown, one table per section."""
    parts = [_INTRODUCTION]
    for section, schema in SECTIONS.items():
        heading = (schema.__doc__ or "").strip()
        parts.append(f"## {section}\n\n{heading}\n")
        parts.append("| setting | default | values | meaning |\n|---|---|---|---|")
        parts += [_row(setting) for setting in SETTINGS.values() if setting.section == section]
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _row(setting: Setting) -> str:
    default = "" if setting.default is None else f"`{setting.text(setting.default) or '(empty)'}`"
    names = " or ".join(f"`{name}`" for name in (setting.name, *setting.key.aliases))
    meaning = setting.key.doc + (" *Dynamic.*" if setting.key.dynamic else "")
    return f"| {names} | {default} | {setting.expected} | {meaning} |"
