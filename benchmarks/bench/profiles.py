"""Profiles: workloads as TOML files. The shipped ones are in `benchmarks/profiles`; users copy one and change it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.bench.errors import BenchError
from benchmarks.bench.workload import Workload

FOLDER = Path(__file__).resolve().parent.parent / "profiles"


def names() -> list[str]:
    """The shipped profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def locate(name: str) -> Path:
    """The file of a shipped profile, or the file of this path."""
    path = Path(name)
    if path.suffix == ".toml" or "/" in name:
        if not path.is_file():
            raise BenchError(f"profile {name}: no such file")
        return path
    shipped = FOLDER / f"{name}.toml"
    if not shipped.is_file():
        raise BenchError(f"profile {name}: not known; there are {', '.join(names())}, or give the path of a .toml file")
    return shipped


def load(path: Path, changes: Mapping[str, Any] | None = None) -> Workload:
    """One profile, with some of its values replaced. BenchError names the file and the key."""
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise BenchError(f"{path}: {error}") from None
    values.setdefault("name", path.stem)
    return build(values, changes or {}, str(path))


def build(values: dict[str, Any], changes: Mapping[str, Any], source: str) -> Workload:
    """A workload from nested values and from changes with dotted keys (`load.rate`)."""
    for key, value in changes.items():
        place = values
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise BenchError(f"{key}: {parent} is a value, not a table")
        place[last] = value
    for table in (values.get("topic_configs"), *(_client(values, part) for part in ("load", "readers"))):
        if isinstance(table, dict):
            table.update({key: _text(value) for key, value in table.items()})
    try:
        return msgspec.convert(values, Workload)
    except msgspec.ValidationError as error:
        raise BenchError(f"{source}: {error}") from None


def _client(values: dict[str, Any], part: str) -> Any:
    found = values.get(part)
    return found.get("client") if isinstance(found, dict) else None


def _text(value: Any) -> Any:
    """Settings of topics and clients are strings on the wire; `flush.messages = 1` is as good as "1"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def parse_change(text: str) -> tuple[str, Any]:
    """`load.rate=1000` as key and value; a value that is not TOML is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BenchError(f"--set {text}: expected key=value, as in load.rate=1000")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return key.strip(), parsed
