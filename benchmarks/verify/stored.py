"""A run and its form on disk: JSON lines, written while it goes on, so that a run that breaks off can be judged too.

    {"e": "start", "schema": 1, "plan": {...}}
    {"e": "invoke", "n": 0, "t": 0.51, "op": "produce", "client": "p0", "topic": "x", "partition": 0, "values": [...]}
    {"e": "end", "n": 0, "t": 0.52, "outcome": "ok", "note": "", "base_offset": 17}
    {"e": "chaos", "t": 10.0, "ended": 12.3, "exit": 0, "output": ""}
    {"e": "phase", "t": 60.0, "phase": "load ended"}
    {"e": "client error", "t": 60.0, "client": "p0", "error": "_TRANSPORT", "times": 3}

Times are seconds since the start of the load. An operation without an `end` is of unknown outcome. Record values are
bytes, shown as Latin-1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.verify.errors import VerifyError
from benchmarks.verify.history import (
    Bounds,
    History,
    OffsetCommit,
    OffsetRead,
    Operation,
    Outcome,
    Partition,
    Produce,
    Read,
)

SCHEMA = 1
LOAD_ENDED, HEALED, READ_BACK = "load ended", "healed", "read back"
"""Phases: when the producers stopped; when every partition had a leader again; when all was read back."""

_CLASSES: dict[str, type[Operation]] = {
    "produce": Produce,
    "read": Read,
    "bounds": Bounds,
    "offset commit": OffsetCommit,
    "offset read": OffsetRead,
}
NAMES = {each: name for name, each in _CLASSES.items()}
_RESULTS: dict[type[Operation], frozenset[str]] = {
    Produce: frozenset(("base_offset",)),
    Read: frozenset(("records", "high_watermark", "log_start")),
    Bounds: frozenset(("high_watermark", "log_start")),
    OffsetCommit: frozenset(),
    OffsetRead: frozenset(("offset",)),
}
_COMMON = frozenset(each.name for each in dataclasses.fields(Operation))
_OWN = {
    each: tuple(one.name for one in dataclasses.fields(each) if one.name not in _COMMON) for each in _CLASSES.values()
}


@dataclass(frozen=True)
class Chaos:
    """One run of the command that the user gave. `exit_code` None: it had to be killed."""

    began_s: float
    ended_s: float
    exit_code: int | None
    output: str = ""


@dataclass
class Run:
    """Everything known of a run: the history, and what happened beside it."""

    plan: dict[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    phases: dict[str, float] = field(default_factory=dict)
    chaos: list[Chaos] = field(default_factory=list)
    client_errors: dict[tuple[str, str], int] = field(default_factory=dict)  # (client, error)

    def add_client_error(self, client: str, error: str, times: int) -> None:
        self.client_errors[client, error] = self.client_errors.get((client, error), 0) + times


def start_line(plan: dict[str, Any]) -> bytes:
    return _line({"e": "start", "schema": SCHEMA, "plan": plan})


def invoke_line(operation: Operation) -> bytes:
    kind = type(operation)
    fields = {name: _shown(getattr(operation, name)) for name in _OWN[kind] if name not in _RESULTS[kind]}
    place = {"topic": operation.partition.topic, "partition": operation.partition.index}
    head = {"e": "invoke", "n": operation.number, "t": round(operation.invoked_s, 6), "op": NAMES[kind]}
    return _line({**head, "client": operation.client, **place, **fields})


def end_line(operation: Operation) -> bytes:
    head = {"e": "end", "n": operation.number, "t": round(operation.ended_s or 0.0, 6)}
    fields: dict[str, Any] = {}
    if operation.outcome is Outcome.OK:
        fields = {name: _shown(getattr(operation, name)) for name in sorted(_RESULTS[type(operation)])}
    return _line({**head, "outcome": operation.outcome.value, "note": operation.note, **fields})


def chaos_line(chaos: Chaos) -> bytes:
    times = {"t": round(chaos.began_s, 3), "ended": round(chaos.ended_s, 3)}
    return _line({"e": "chaos", **times, "exit": chaos.exit_code, "output": chaos.output})


def phase_line(phase: str, at_s: float) -> bytes:
    return _line({"e": "phase", "t": round(at_s, 3), "phase": phase})


def client_error_line(client: str, error: str, times: int, at_s: float) -> bytes:
    return _line({"e": "client error", "t": round(at_s, 3), "client": client, "error": error, "times": times})


def load(path: Path) -> Run:
    """The run of a file. VerifyError says which line is wrong; a last line that was cut off is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise VerifyError(f"{path}: {error.strerror}") from None
    rest = lines.pop()  # behind the last end of line: nothing, or what was being written when the run broke off
    run = parse(lines, str(path))
    if not run.plan and not run.history.operations:
        raise VerifyError(f"{path} holds no history{' but a torn line' if rest else ''}")
    return run


def parse(lines: Iterable[bytes], name: str) -> Run:
    """See `load`."""
    run = Run()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            _take(run, msgspec.json.decode(line))
        except (msgspec.MsgspecError, KeyError, IndexError, TypeError, ValueError) as error:
            raise VerifyError(f"{name}, line {number}: {type(error).__name__}: {error}") from None
    return run


def _take(run: Run, event: dict[str, Any]) -> None:
    match event["e"]:
        case "start":
            if event["schema"] != SCHEMA:
                raise ValueError(f"schema {event['schema']}, this version reads {SCHEMA}")
            run.plan = event["plan"]
        case "invoke":
            _invoke(run.history, event)
        case "end":
            _end(run.history, event)
        case "chaos":
            run.chaos.append(Chaos(event["t"], event["ended"], event["exit"], event["output"]))
        case "phase":
            run.phases[event["phase"]] = event["t"]
        case "client error":
            run.add_client_error(event["client"], event["error"], event["times"])
        case other:
            raise ValueError(f"unknown event {other!r}")


def _invoke(history: History, event: dict[str, Any]) -> None:
    kind = _CLASSES[event["op"]]
    if event["n"] != len(history.operations):
        raise ValueError(f"operation {event['n']} where {len(history.operations)} comes next")
    fields = {name: _read(name, event[name]) for name in _OWN[kind] if name not in _RESULTS[kind] and name in event}
    operation = kind(client=event["client"], partition=Partition(event["topic"], event["partition"]), **fields)
    history.invoke(operation, event["t"])


def _end(history: History, event: dict[str, Any]) -> None:
    operation = history.operations[event["n"]]
    for name in _RESULTS[type(operation)]:
        if name in event:
            setattr(operation, name, _read(name, event[name]))
    history.end(operation, Outcome(event["outcome"]), event["t"], event.get("note", ""))


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return [_shown(each) for each in value] if isinstance(value, tuple) else value


def _read(name: str, value: Any) -> Any:
    if name == "values":
        return tuple(each.encode("latin-1") for each in value)
    if name == "records":
        return tuple((offset, each.encode("latin-1")) for offset, each in value)
    return value


def _line(event: dict[str, Any]) -> bytes:
    return msgspec.json.encode(event) + b"\n"
