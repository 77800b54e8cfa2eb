"""What a power cut leaves of a folder: replays a log of `recorder.c` up to any event and writes one possible image.

The model: a write is durable once an fsync or fdatasync of its file that began after it has returned. Of the others
each is there, lost, or torn at sectors, and so is each change of a file's length. Names: a create, rename, link, unlink
or mkdir is durable once the folder was synced after it, the creation of a file also once the file itself was fsynced
(as ext4, XFS and btrfs do it); of the others a beginning survives, since file systems journal them in order.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_HEAD = struct.Struct("=QIIQQQ")
_SECTOR = 512
_ZEROS = bytes(64 * 1024)


class Kind(IntEnum):
    """As in `recorder.c`."""

    CREATE = 1
    WRITE = 2
    ZEROS = 3
    TRUNCATE = 4
    GROW = 5
    SYNC_BEGIN = 6
    DATASYNC_END = 7
    SYNC_END = 8
    RENAME = 9
    UNLINK = 10
    MKDIR = 11
    RMDIR = 12
    LINK = 13
    UNSUPPORTED = 14


class Event(NamedTuple):
    """One change or sync. `time_ns` is of CLOCK_MONOTONIC; of a SYNC_END, `offset` is the time of its begin."""

    time_ns: int
    kind: Kind
    name: str
    offset: int
    length: int
    data: bytes


class Unsupported(Exception):
    """The program did something that the recorder cannot follow: no image would be honest."""


def read_log(path: Path) -> list[Event]:
    """All whole events of a log; a last one that a kill cut off is left out."""
    content = path.read_bytes()
    events: list[Event] = []
    position = 0
    while position + _HEAD.size <= len(content):
        time_ns, kind, name_length, offset, length, data_length = _HEAD.unpack_from(content, position)
        start = position + _HEAD.size
        end = start + name_length + data_length
        if end > len(content):
            break
        name = content[start : start + name_length].decode()
        data = content[start + name_length : end]
        if kind == Kind.UNSUPPORTED:
            raise Unsupported(f"{data.decode()} on {name!r}")
        events.append(Event(time_ns, Kind(kind), name, offset, length, data))
        position = end
    return events


class _File:
    """Content: `synced`, and the changes after it in order."""

    def __init__(self, content: bytes = b"") -> None:
        self.synced = bytearray(content)
        self.changes: list[Event] = []

    def sync(self, count: int) -> None:
        """The first `count` changes that were ever noted and are still open became durable."""
        for change in self.changes[:count]:
            _apply(self.synced, change)
        del self.changes[:count]

    def survivor(self, rng: random.Random) -> bytearray:
        content = bytearray(self.synced)
        share = rng.choice((0.0, 0.3, 0.7, 1.0))
        for change in self.changes:
            if rng.random() < share:
                _apply(content, change)
            elif change.kind in (Kind.WRITE, Kind.ZEROS) and rng.random() < 0.5:
                _tear(content, change, rng)
        return content


def _apply(content: bytearray, change: Event) -> None:
    if change.kind is Kind.TRUNCATE:
        del content[change.length :]
        content.extend(bytes(change.length - len(content)))
    elif change.kind is Kind.GROW:
        content.extend(bytes(max(0, change.length - len(content))))
    else:
        _put(content, change.offset, change.data if change.kind is Kind.WRITE else bytes(change.length))


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _tear(content: bytearray, change: Event, rng: random.Random) -> None:
    """Some of its sectors arrived."""
    data = change.data if change.kind is Kind.WRITE else bytes(change.length)
    share, position = rng.random(), 0
    while position < len(data):
        piece = data[position : position + _SECTOR - (change.offset + position) % _SECTOR]
        if rng.random() < share:
            _put(content, change.offset + position, piece)
        position += len(piece)


class _NameChange(NamedTuple):
    """`old` ceases to be, `new` is `file` (None: a folder)."""

    old: str | None
    new: str | None
    file: _File | None

    def names(self) -> set[str]:
        return {name for name in (self.old, self.new) if name is not None}

    def folders(self) -> set[str]:
        return {_parent(name) for name in self.names()}

    def apply(self, names: dict[str, _File | None]) -> None:
        if self.old is not None:
            names.pop(self.old, None)
        if self.new is not None:
            names[self.new] = self.file


def _parent(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent


class Replay:
    """The state of the folder after some events: as seen by the process, and what of it is durable."""

    def __init__(self, initial: Path | None = None) -> None:
        self._seen: dict[str, _File | None] = {}
        if initial is not None:
            for path in sorted(initial.rglob("*")):
                name = str(path.relative_to(initial))
                self._seen[name] = None if path.is_dir() else _File(path.read_bytes())
        self._durable = dict(self._seen)
        self._pending: list[_NameChange] = []
        # Begun syncs by their time: the file and the number of its changes, or the pending names.
        self._syncs: dict[int, tuple[_File, Event | None] | list[_NameChange]] = {}

    def apply(self, event: Event) -> None:
        """Advance by one event of the log."""
        kind, name = event.kind, event.name
        if kind is Kind.SYNC_BEGIN:
            self._begin_sync(event)
        elif kind in (Kind.SYNC_END, Kind.DATASYNC_END):
            self._end_sync(event)
        elif kind in (Kind.WRITE, Kind.ZEROS, Kind.TRUNCATE, Kind.GROW):
            self._file(name).changes.append(event)
        elif kind is Kind.CREATE:
            self._rename(_NameChange(None, name, _File()))
        elif kind is Kind.MKDIR:
            self._rename(_NameChange(None, name, None))
        elif kind in (Kind.UNLINK, Kind.RMDIR):
            self._rename(_NameChange(name, None, None))
        else:
            old = name if kind is Kind.RENAME else None
            self._rename(_NameChange(old, event.data.decode(), self._file(name)))

    def _file(self, name: str) -> _File:
        file = self._seen.get(name)
        if file is None:
            raise Unsupported(f"a change of {name!r}, which the log has not seen as a file")
        return file

    def _rename(self, change: _NameChange) -> None:
        change.apply(self._seen)
        self._pending.append(change)

    def _begin_sync(self, event: Event) -> None:
        file = self._seen.get(event.name)
        if file is None:
            self._syncs[event.time_ns] = list(self._pending)
        else:
            self._syncs[event.time_ns] = (file, file.changes[-1] if file.changes else None)

    def _end_sync(self, event: Event) -> None:
        begun = self._syncs.pop(event.offset, None)
        if begun is None:
            return  # of a file that is unlinked
        if isinstance(begun, list):
            self._settle([change for change in begun if event.name in change.folders()])
            self._settle(self._creations(event.name))
            return
        file, last = begun
        # A sync that began later may have ended before: then its changes are durable already.
        if last is not None and any(change is last for change in file.changes):
            file.sync(next(index for index, change in enumerate(file.changes) if change is last) + 1)
        if event.kind is Kind.SYNC_END:
            self._settle([change for change in self._pending if change.file is file and change.old is None])
            self._settle(self._creations(_parent(event.name)))

    def _creations(self, folder: str) -> list[_NameChange]:
        """Of the folder itself and of those that it is in."""
        above = {folder, *(str(parent) for parent in PurePosixPath(folder).parents)}
        return [change for change in self._pending if change.file is None and change.new in above]

    def _settle(self, settled: Sequence[_NameChange]) -> None:
        """These are durable, and with each the earlier changes of the same names."""
        open_ids = {id(change) for change in settled}
        touched: set[str] = set()
        durable: set[int] = set()
        for change in reversed(self._pending):
            if id(change) in open_ids or change.names() & touched:
                durable.add(id(change))
                touched |= change.names()
        for change in self._pending:
            if id(change) in durable:
                change.apply(self._durable)
        self._pending = [change for change in self._pending if id(change) not in durable]

    def write_image(self, target: Path, rng: random.Random) -> None:
        """Write one possible outcome of a power cut now into the empty folder `target`."""
        names = dict(self._durable)
        for change in self._pending[: rng.choice((0, rng.randint(0, len(self._pending)), len(self._pending)))]:
            change.apply(names)
        target.mkdir(parents=True, exist_ok=True)
        for name, file in names.items():
            path = target / name
            if file is None:
                path.mkdir(parents=True, exist_ok=True)
            elif not name.endswith("-shm"):  # SQLite's shared index: rebuilt by whoever opens the database first
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_sparse(path, file.survivor(rng))


def _write_sparse(path: Path, content: bytearray) -> None:
    view = memoryview(content)
    with path.open("wb") as file:
        for offset in range(0, len(content), len(_ZEROS)):
            piece = view[offset : offset + len(_ZEROS)]
            if piece != _ZEROS[: len(piece)]:
                os.pwrite(file.fileno(), piece, offset)
        file.truncate(len(content))


class PowerCut:
    """A moment between two events. Whoever heard something before `time_ns` heard it before the cut."""

    def __init__(self, replay: Replay, index: int, time_ns: int, seed: int) -> None:
        self._replay = replay
        self.index = index
        self.time_ns = time_ns
        self.seed = seed

    def __repr__(self) -> str:
        return f"power cut before event {self.index}, seed {self.seed}"

    def write_image(self, target: Path) -> None:
        """Call before the next cut is taken. The same log, index and seed give the same image."""
        self._replay.write_image(target, random.Random(self.seed))


def power_cuts(
    events: Sequence[Event], count: int, rng: random.Random, *, after_ns: int = 0, initial: Path | None = None
) -> Iterator[PowerCut]:
    """`count` cuts in order of time, none before `after_ns`: half of them anywhere, half right before a sync ends."""
    possible = [index for index, event in enumerate(events) if event.time_ns >= after_ns]
    ends = [index for index in possible if events[index].kind in (Kind.SYNC_END, Kind.DATASYNC_END)]
    chosen = sorted(rng.choice(ends if ends and number % 2 else possible) for number in range(count))
    replay = Replay(initial)
    done = 0
    for index in chosen:
        for event in events[done:index]:
            replay.apply(event)
        done = index
        yield PowerCut(replay, index, events[index].time_ns, rng.getrandbits(32))
