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


def documentation() -> str:
    """The settings as Markdown, one table per section."""
    parts = []
    for section, schema in SECTIONS.items():
        heading = (schema.__doc__ or "").strip()
        parts.append(f"**{section}**: {heading[0].lower()}{heading[1:]}\n")
        parts.append("| setting | default | values | meaning |\n|---|---|---|---|")
        parts += [_row(setting) for setting in SETTINGS.values() if setting.section == section]
        parts.append("")
    return "\n".join(parts)


def _row(setting: Setting) -> str:
    default = "" if setting.default is None else f"`{setting.text(setting.default) or '(empty)'}`"
    names = " or ".join(f"`{name}`" for name in (setting.name, *setting.key.aliases))
    return f"| {names} | {default} | {setting.expected} | {setting.key.doc} |"
