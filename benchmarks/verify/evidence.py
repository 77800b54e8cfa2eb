"""The operations that show a finding, taken from the words of the finding.

A checker says what is wrong in a sentence that names record values, offsets or operations. What shows it are the
operations of that partition which sent, were told or read these; so each new checker's findings come with their events.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import replace

from benchmarks.verify.history import (
    Anomaly,
    Bounds,
    History,
    OffsetCommit,
    OffsetRead,
    Operation,
    Outcome,
    Produce,
    Read,
)

_VALUE = re.compile(r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""")
_OFFSETS = re.compile(r"\boffsets? \[?(\d+(?:, \d+)*)")
_NUMBER = re.compile(r"\b(?:operation|produce|read|commit) (\d+)")
_SHOWN_VALUE = 40  # as much of a value as checkers show
_BEFORE, _AFTER = 1, 1  # records shown around the one in question


def evidence(history: History, anomaly: Anomaly, most: int = 6) -> list[Operation]:
    """At most `most` operations, in order of time; a read is cut to the records around what matters."""
    values = {ast.literal_eval(text) for text in _VALUE.findall(anomaly.text)}
    rest = _VALUE.sub("", anomaly.text)
    offsets = {int(each) for group in _OFFSETS.findall(rest) for each in group.split(", ")}
    numbers = {int(each) for each in _NUMBER.findall(rest)}
    found: list[Operation] = []
    for operation in history.operations:
        if operation.partition != anomaly.partition:
            continue
        if operation.number in numbers:
            found.append(_around(operation, values, offsets) or operation)
        elif (shown := _around(operation, values, offsets)) is not None:
            found.append(shown)
    return sorted(_few(found, most), key=lambda each: (each.invoked_s, each.number))


def _few(found: list[Operation], most: int) -> list[Operation]:
    """The attempts to write; of the reads, which are many and say the same, those that first showed each outcome, and
    the last one."""
    chosen = [each for each in found if not isinstance(each, Read)][:most]
    seen: set[tuple[tuple[int, bytes], ...]] = set()
    reads = [each for each in found if isinstance(each, Read)]
    for read in reads:
        if read.records not in seen or read is reads[-1]:
            seen.add(read.records)
            chosen.append(read)
    return chosen if len(chosen) <= most else [*chosen[: most - 1], chosen[-1]]


def _around(operation: Operation, values: set[bytes], offsets: set[int]) -> Operation | None:
    """The operation, a read with few of its records, if it has to do with them."""
    if isinstance(operation, Produce):
        sent = any(value[:_SHOWN_VALUE] in values for value in operation.values)
        return operation if sent or operation.base_offset in offsets else None
    if isinstance(operation, Read):
        places = [
            place
            for place, (offset, value) in enumerate(operation.records)
            if value[:_SHOWN_VALUE] in values or offset in offsets
        ]
        if not places:
            return None
        near = operation.records[max(0, places[0] - _BEFORE) : places[-1] + 1 + _AFTER]
        return replace(operation, records=near)
    return None


def told(operation: Operation) -> str:
    """One operation in words."""
    client = operation.client
    match operation:
        case Produce():
            text = f"{client} sent {_values(operation.values)}"
            if operation.producer_id is not None:
                text += f" as sequence {operation.base_sequence} of epoch {operation.producer_epoch}"
            result = (
                "delivered, offset not told" if operation.base_offset is None else f"offset {operation.base_offset}"
            )
        case Read():
            which = "read everything back" if operation.final else "read"
            text = f"{client} {which} from offset {operation.offset}"
            result = ", ".join(f"{offset}: {_values((value,))}" for offset, value in operation.records[:6])
        case Bounds():
            text = f"{client} asked for the watermarks"
            result = f"{operation.log_start} to {operation.high_watermark}"
        case OffsetCommit():
            text = f"{client} committed offset {operation.offset} as {operation.member}"
            result = ""
        case OffsetRead():
            text = f"{client} asked what {operation.group} has committed"
            result = f"offset {operation.offset}"
        case _:
            text, result = f"{client}: {type(operation).__name__}", ""
    match operation.outcome:
        case Outcome.OK:
            return f"{text}: {result or 'done'}"
        case Outcome.FAIL:
            return f"{text}: refused, {operation.note}"
        case Outcome.UNKNOWN:
            return f"{text}: unknown outcome{', ' + operation.note if operation.note else ', no answer'}"


def _values(values: Iterable[bytes]) -> str:
    return ", ".join(repr(value.partition(b" #")[0])[1:] for value in values)
