"""Matrices: files that name many cases, each a workload, and the ratios hoped for."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.bench import profiles
from benchmarks.bench.brokers import Broker
from benchmarks.bench.errors import BenchError
from benchmarks.bench.interleaved import Plan
from benchmarks.bench.run import check
from benchmarks.bench.table import Case


class CaseFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One `[[case]]`: `profile` names a shipped one to begin with, `set` changes it (dotted keys)."""

    name: str
    text: str = ""
    section: str = ""
    x: float | None = None
    profile: str = ""
    set: dict[str, Any] = {}
    goals: dict[str, dict[str, float]] = {}


class MatrixFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A matrix: `set` holds for every case unless the case says otherwise, so do the goals of `"*"`."""

    name: str
    text: str = ""
    rounds: int = 5
    set: dict[str, Any] = {}
    goals: dict[str, dict[str, float]] = {}
    case: tuple[CaseFile, ...]


class BrokersFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The brokers of a matrix; ratios are of the first one."""

    broker: tuple[Broker, ...]


def _decode(path: Path, kind: Any) -> Any:
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), kind)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BenchError(f"{path}: {error}") from None


def load(path: Path, only: str = "*", changed: Mapping[str, Any] | None = None) -> tuple[MatrixFile, list[Plan]]:
    """The matrix and the plans of the cases whose name matches; `changed` wins over what the file says."""
    matrix: MatrixFile = _decode(path, MatrixFile)
    plans = []
    for case in matrix.case:
        if not fnmatch.fnmatchcase(case.name, only):
            continue
        changes = {**matrix.set, **case.set, **(changed or {})}
        source = f"{path}, case {case.name}"
        if case.profile:
            workload = profiles.load(profiles.locate(case.profile), changes)
        else:
            workload = profiles.build({}, changes, source)
        try:
            check(workload)
        except BenchError as error:
            raise BenchError(f"{source}: {error}") from None
        goals = {
            broker: {**matrix.goals.get(broker, {}), **case.goals.get(broker, {})}
            for broker in sorted({*matrix.goals, *case.goals})
        }
        plans.append(Plan(Case(name=case.name, text=case.text, section=case.section, x=case.x, goals=goals), workload))
    return matrix, plans


def load_brokers(path: Path) -> list[Broker]:
    """The brokers of a file."""
    found: BrokersFile = _decode(path, BrokersFile)
    return list(found.broker)


def parse_broker(text: str) -> Broker:
    """`NAME=HOST:PORT`, and after commas `pid=N`, `metrics=URL` or `topic.CONFIG=VALUE`."""
    first, *rest = text.split(",")
    name, equals, bootstrap = first.partition("=")
    if not equals or ":" not in bootstrap:
        raise BenchError(f"{text}: expected NAME=HOST:PORT")
    pids: list[int] = []
    metrics = ""
    configs: dict[str, str] = {}
    for part in rest:
        key, _, value = part.partition("=")
        if key == "pid" and value.isdigit():
            pids.append(int(value))
        elif key == "metrics" and value:
            metrics = value
        elif key.startswith("topic.") and value:
            configs[key.removeprefix("topic.")] = value
        else:
            raise BenchError(f"{text}: {part}: expected pid=N, metrics=URL or topic.CONFIG=VALUE")
    return Broker(name=name, bootstrap=bootstrap, pids=tuple(pids), metrics=metrics, topic_configs=configs)
