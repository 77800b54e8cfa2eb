"""One setting: its dotted name, type, bounds and text, and how a raw value becomes a checked one (pure).

A section of `schema.py` declares each field as `Annotated[type, Key(...)]`; everything else (parsing, the environment
name, the printed table, the answer of DescribeConfigs) is derived from that one declaration.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

SIZE_SUFFIXES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class ConfigType(enum.IntEnum):
    """Kafka's config data types, as DescribeConfigs numbers them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class Listener(NamedTuple):
    """One address of `listeners`: `NAME://host:port`. An empty host means every interface, port 0 any free port."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


class Key(msgspec.Struct, frozen=True):
    """What the annotation of one field says. `long` widens an int from 32 to 64 bits, as Kafka types its settings."""

    name: str
    doc: str
    aliases: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    dynamic: bool = False
    long: bool = False


class BadValue(ValueError):
    """A raw value that is not of the wanted form; the text says what was expected."""


class Setting(NamedTuple):
    """A declared setting in its place: `section.attribute`, its key, its python type and its default."""

    section: str
    attribute: str
    key: Key
    base: Any
    optional: bool
    default: Any

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def environment_name(self) -> str:
        """`log.retention.ms` is `WEIR_LOG_RETENTION_MS`."""
        return environment_name(self.key.name)

    @property
    def config_type(self) -> ConfigType:
        if self.key.secret:
            return ConfigType.PASSWORD
        if self.base is bool:
            return ConfigType.BOOLEAN
        if self.base is int:
            return ConfigType.LONG if self.key.long else ConfigType.INT
        if self.base is float:
            return ConfigType.DOUBLE
        return ConfigType.STRING if self.base is str else ConfigType.LIST

    @property
    def expected(self) -> str:
        """The form of a valid value, in words."""
        if self.key.choices:
            return "one of " + ", ".join(self.key.choices)
        if self.base is bool:
            return "true or false"
        if self.base in (int, float):
            low, high = self._bounds()
            word = "an integer" if self.base is int else "a number"
            if high in (INT_MAX, LONG_MAX) or high == float("inf"):
                return f"{word} of at least {low}"
            return f"{word} from {low} to {high}"
        if self.base == tuple[Listener, ...]:
            return "a list of NAME://host:port"
        return "text" if self.base is str else "a comma-separated list"

    def _bounds(self) -> tuple[float, float]:
        if self.base is float:
            low, high = float("-inf"), float("inf")
        else:
            high = LONG_MAX if self.key.long else INT_MAX
            low = -high - 1
        return (
            low if self.key.least is None else self.key.least,
            high if self.key.most is None else self.key.most,
        )

    def parse(self, raw: object) -> Any:
        """The checked value of `raw`: text from the environment or an option, or a typed TOML value. BadValue."""
        if self.optional and (raw is None or raw == ""):
            return None
        if self.base is bool:
            return _parse_bool(raw)
        if self.base in (int, float):
            return self._parse_number(raw)
        if self.base is str:
            if not isinstance(raw, str):
                raise BadValue(self.expected)
            if self.key.choices and raw not in self.key.choices:
                raise BadValue(self.expected)
            return raw
        items = _parse_items(raw)
        if self.base == tuple[Listener, ...]:
            return tuple(parse_listener(item) for item in items)
        if self.key.choices and any(item not in self.key.choices for item in items):
            raise BadValue(f"a comma-separated list of {', '.join(self.key.choices)}")
        return items

    def _parse_number(self, raw: object) -> int | float:
        value: int | float
        if isinstance(raw, str):
            value = self._number_of_text(raw.strip())
        elif isinstance(raw, bool) or not isinstance(raw, (int, float)):
            raise BadValue(self.expected)
        else:
            value = raw
        if self.base is int and not isinstance(value, int):
            raise BadValue(self.expected)
        low, high = self._bounds()
        if not low <= value <= high:
            raise BadValue(self.expected)
        return value

    def _number_of_text(self, text: str) -> int | float:
        factor = 1
        if self.key.name.endswith(".bytes"):
            for suffix, size in SIZE_SUFFIXES.items():
                if text.endswith(suffix):
                    text, factor = text.removesuffix(suffix).strip(), size
        try:
            return int(text) * factor if self.base is int else float(text)
        except ValueError:
            raise BadValue(self.expected) from None

    def text(self, value: Any) -> str | None:
        """The value as Kafka prints it; None stays None."""
        if value is None:
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, tuple):
            return ",".join(str(item) for item in value)
        return str(value)


def environment_name(name: str) -> str:
    """Name of the environment variable of a dotted setting name."""
    return "WEIR_" + name.upper().replace(".", "_")


def _parse_bool(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in ("true", "false"):
        return raw.strip().lower() == "true"
    raise BadValue("true or false")


def _parse_items(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        return tuple(item.strip() for item in raw.split(",") if item.strip())
    if isinstance(raw, (list, tuple)) and all(isinstance(item, str) for item in raw):
        return tuple(raw)
    raise BadValue("a comma-separated list")


def parse_listener(text: str) -> Listener:
    """`PLAINTEXT://127.0.0.1:9092`, `PLAINTEXT://:9092`, `PLAINTEXT://[::1]:9092`; BadValue for anything else."""
    wanted = "NAME://host:port"
    name, found, address = text.partition("://")
    host, colon, port_text = address.rpartition(":")
    if not found or not colon or not name.replace("_", "").isalnum():
        raise BadValue(wanted)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadValue(wanted + " (an IPv6 address stands in brackets)")
    if not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise BadValue(wanted + " with a port from 0 to 65535")
    return Listener(name.upper(), host, int(port_text))


def declared(section: str, schema: type[msgspec.Struct]) -> Iterator[Setting]:
    """The settings of one section, in the order of their declaration."""
    hints = typing.get_type_hints(schema, include_extras=True)
    for field in msgspec.structs.fields(schema):
        base, key = typing.get_args(hints[field.name])
        optional = isinstance(base, types.UnionType) and type(None) in typing.get_args(base)
        if optional:
            (base,) = [each for each in typing.get_args(base) if each is not type(None)]
        yield Setting(section, field.name, key, base, optional, field.default)
