"""The simulated disk under a file WAL: what is written, what is synced, and what a crash leaves.

A `Disk` belongs to a host and outlives its processes. A process kill keeps all that reached the page cache; a power
cut keeps what was synced and, of the rest, a random part: each write whole, torn (the first sectors of it, or
any of them, as a disk that reorders), or not at all. It may be full for a while, and rot: bits flip on the platter for
good (`bit_flips.py` picks which) or in one read.
`open()` gives one process its `WalDevice`.
"""

from __future__ import annotations

import contextvars
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from typing_extensions import Buffer

from s3stream.errors import Fatal, Retry
from s3stream.ports import Done
from s3stream.wal.frame import MAGIC, SEAL, SEGMENT_HEADER_SIZE, SEGMENT_MAGIC, decode_frame_header, frame_size
from tests.simulation.bit_flips import Flip, pick_flip
from tests.simulation.errors import SimulationFailure
from tests.simulation.loop import SimulatedLoop
from tests.simulation.nodes import CURRENT, Node
from tests.simulation.wal_device import SimulatedWalDevice

_SECTOR_BYTES = 512


@dataclass
class DiskSettings:
    """Latencies in seconds. The planted bugs are for proving that the checkers catch them."""

    write_max_s: float = 0.0002
    sync_min_s: float = 0.0003
    sync_max_s: float = 0.004
    stall_share: float = 0.005
    stall_max_s: float = 0.5
    recycle_share: float = 0.7
    read_flip_share: float = 0.0  # of the segments read: one bit comes back wrong, this once
    planted_ack_before_sync: bool = False
    planted_ack_before_write: bool = False


@dataclass
class _Segment:
    """`cached` is what reads return, `platter` what a power cut surely leaves, `unsynced` the difference, in order."""

    cached: bytearray
    platter: bytearray
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)
    torn: bool = False


@dataclass
class _Write:
    """A write on its way: the buffers are the caller's own until the kernel copies them."""

    number: int
    offset: int
    buffers: list[memoryview]
    checksum: int
    done: Done
    node: Node | None
    context: contextvars.Context
    copied: bool = False
    reported: bool = False
    over: bool = False

    def content(self) -> bytes:
        return b"".join(self.buffers)


class Disk:
    """Segments of one host. All randomness comes from `rng`; what fired is counted in `fired`."""

    def __init__(
        self,
        loop: SimulatedLoop,
        rng: random.Random,
        fired: Counter[str],
        segment_size_bytes: int = 1024 * 1024,
        settings: DiskSettings | None = None,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.fired = fired
        self.segment_size_bytes = segment_size_bytes
        self.settings = settings if settings is not None else DiskSettings()
        self.fail_next_sync = False
        self.segments: dict[int, _Segment] = {}
        self.flips: list[Flip] = []  # bits that are wrong on the platter now
        self.reads_flipped = 0
        self._full_until_s = 0.0
        self._syncs_held_until_s = 0.0
        self.durable: list[tuple[int, int, int, float]] = []
        self._at_next_write: Callable[[], object] | None = None
        self._recyclable: list[bytes] = []
        self._writes: list[_Write] = []

    def open(self) -> SimulatedWalDevice:
        """The device of the calling process."""
        return SimulatedWalDevice(self)

    def fill(self, duration_s: float) -> None:
        """No space for new segments for a while; recycled ones are there already and can be had."""
        self._full_until_s = max(self._full_until_s, self.loop.time() + duration_s)

    def hold_syncs(self, duration_s: float) -> None:
        """No sync that begins from now on returns for a while: a device that tidies up, a cloud volume that moves."""
        self._syncs_held_until_s = self.loop.time() + duration_s

    def full(self) -> bool:
        return self.loop.time() < self._full_until_s

    def rot(self) -> bool:
        """Turn over one bit that a later frame vouches for, in the page cache and on the platter, until `mend` or until
        the segment goes. False when there is none, or one is wrong already: two could hide each other."""
        flip = None if self.flips else pick_flip({n: each.platter for n, each in self.segments.items()}, self.rng)
        if flip is None:
            return False
        self.flips.append(flip)
        self._turn(flip)
        self.fired["disk: bit flipped"] += 1
        self.loop.trace.add(f"{self.loop.time()!r} {flip}")
        return True

    def mend(self) -> None:
        """Put back what `rot` turned, as an operator does from an intact copy."""
        flips, self.flips = self.flips, []
        for flip in flips:
            self._turn(flip)

    def _turn(self, flip: Flip) -> None:
        segment = self.segments[flip.segment]
        for content in (segment.cached, segment.platter):
            content[flip.offset] ^= 1 << flip.bit

    def end_troubles(self) -> None:
        """Healthy from now on; what rotted is mended."""
        self.settings.stall_share = self.settings.read_flip_share = 0
        self.fail_next_sync = False
        self._full_until_s = self._syncs_held_until_s = 0.0
        self.mend()

    def read(self, number: int, size_bytes: int | None = None) -> bytes:
        """What a process gets to see of a segment. Only who reads it whole meets faults: they are in frames."""
        segment = self.segments.get(number)
        if segment is None:
            raise SimulationFailure(f"read of segment {number}, which does not exist")
        if size_bytes is not None:
            return bytes(segment.cached[:size_bytes])
        if segment.torn:
            self.fired["rare: torn segment recovered"] += 1
            segment.torn = False
        content = bytearray(segment.cached)
        if self.rng.random() < self.settings.read_flip_share:
            flip = pick_flip({n: each.platter for n, each in self.segments.items()}, self.rng, only=number)
            if flip is not None and not self.flips:
                content[flip.offset] ^= 1 << flip.bit
                self.fired["disk: bit flipped in a read"] += 1
                self.reads_flipped += 1
        return bytes(content)

    def when_next_written(self, call: Callable[[], object]) -> None:
        """Call once, in no node's name, when the next write is submitted: to aim a fault at the moment of an ack."""
        self._at_next_write = call

    # -- what happens to the host

    def process_killed(self, node: Node) -> None:
        """Writes of the process that the kernel had not copied yet: nothing, or a beginning of them, arrives."""
        for write in self._writes:
            if write.node is not node or write.over:
                continue
            write.over = True
            if not write.copied and self.rng.random() < 0.5:
                content = write.content()
                self._cache(write, content[: self.rng.randint(0, len(content))])
        self._writes = [write for write in self._writes if not write.over]

    def power_cut(self) -> None:
        """Call after `process_killed`. What was not synced survives in random parts only."""
        for segment in self.segments.values():
            for offset, content in segment.unsynced:
                fate = self.rng.random()
                if fate < 0.4:
                    self.fired["disk: unsynced write lost"] += 1
                elif fate < 0.6:
                    segment.platter[offset : offset + len(content)] = content
                    self.fired["disk: unsynced write survived"] += 1
                else:
                    self._tear(segment, offset, content)
                    segment.torn = True
                    self.fired["disk: unsynced write torn"] += 1
            segment.unsynced.clear()
            segment.cached = bytearray(segment.platter)

    def _tear(self, segment: _Segment, offset: int, content: bytes) -> None:
        """Some sectors of the write arrived: a prefix, or any subset."""
        prefix_only = self.rng.random() < 0.5
        cut = self.rng.randint(0, len(content))
        position = 0
        while position < len(content):
            to_boundary = _SECTOR_BYTES - (offset + position) % _SECTOR_BYTES
            piece = content[position : position + to_boundary]
            if prefix_only:
                piece = piece[: max(0, cut - position)]
            elif self.rng.random() < 0.5:
                piece = b""
            segment.platter[offset + position : offset + position + len(piece)] = piece
            position += to_boundary

    # -- what the device does

    def latency_s(self, shortest_s: float, longest_s: float) -> float:
        if self.rng.random() < self.settings.stall_share:
            self.fired["disk: stall"] += 1
            return self.rng.uniform(longest_s, self.settings.stall_max_s)
        return self.rng.uniform(shortest_s, longest_s)

    def create(self, number: int) -> None:
        if number in self.segments:
            raise SimulationFailure(f"segment {number} exists already")
        content = bytes(self.segment_size_bytes)
        if self._recyclable and (self.full() or self.rng.random() < self.settings.recycle_share):
            content = self._recyclable.pop()
            self.fired["disk: segment recycled"] += 1
        elif self.full():
            self.fired["disk: full"] += 1
            raise Retry(f"no space for segment {number}: no space left on device", 1000)
        self.segments[number] = _Segment(bytearray(content), bytearray(content))

    def remove(self, number: int) -> None:
        segment = self.segments.pop(number, None)
        self.flips = [flip for flip in self.flips if flip.segment != number]
        if segment is not None:
            self._recyclable = [*self._recyclable[-7:], bytes(segment.cached)]

    def submit(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        views = [memoryview(each).cast("B") for each in buffers]
        size = sum(len(each) for each in views)
        if number not in self.segments:
            raise SimulationFailure(f"write to segment {number}, which does not exist")
        if offset < 0 or offset + size > self.segment_size_bytes:
            raise SimulationFailure(f"write of {size} bytes at {offset} leaves segment {number}")
        planted = self.settings.planted_ack_before_sync or self.settings.planted_ack_before_write
        if not planted and any(write.node is CURRENT.get() for write in self._writes):
            raise SimulationFailure("two writes under way: the owner of the device keeps at most one")
        write = _Write(number, offset, views, _checksum(views), done, CURRENT.get(), contextvars.copy_context())
        self._writes.append(write)
        if self.settings.planted_ack_before_write:
            self._report(write, None)
        if self._at_next_write is not None:
            self.loop.call_world(0, self._at_next_write)
            self._at_next_write = None
        self.loop.call_world(self.rng.uniform(0, self.settings.write_max_s), self._copy, write)

    def _copy(self, write: _Write) -> None:
        """The kernel takes the buffers (pwritev)."""
        if write.over:
            return
        content = write.content()
        if zlib.crc32(content) != write.checksum and not write.reported:
            self.loop.fail(SimulationFailure("a buffer handed to the WAL device changed before it was written"))
        write.copied = True
        self._cache(write, content)
        if self.settings.planted_ack_before_sync:
            self._report(write, None)
        self.loop.call_world(self._sync_s(), self._sync, write)

    def _sync_s(self) -> float:
        held_s = self._syncs_held_until_s - self.loop.time()
        if held_s > 0:
            self.fired["disk: sync held back"] += 1
            return held_s
        return self.latency_s(self.settings.sync_min_s, self.settings.sync_max_s)

    def _cache(self, write: _Write, content: bytes) -> None:
        segment = self.segments.get(write.number)
        if segment is not None:
            segment.cached[write.offset : write.offset + len(content)] = content
            segment.unsynced.append((write.offset, content))

    def _sync(self, write: _Write) -> None:
        """fdatasync returns."""
        if write.over:
            return
        write.over = True
        self._writes.remove(write)
        segment = self.segments.get(write.number)
        error: Fatal | None = None
        if self.fail_next_sync:
            # The kernel marks the pages clean although they are not on the disk: no later sync will write them.
            self.fail_next_sync = False
            self.fired["disk: sync failed"] += 1
            error = Fatal("fdatasync: input/output error")
        elif segment is not None:
            for offset, content in segment.unsynced:
                segment.platter[offset : offset + len(content)] = content
            self._note_durable(write)
        if segment is not None:
            segment.unsynced.clear()
        if not write.reported:
            self._report(write, error)

    def _note_durable(self, write: _Write) -> None:
        """Which records this write made safe: (stream id, first offset, end offset, time)."""
        now_s = self.loop.time()
        for stream_id, start, count in frames_in(write.content()):
            self.durable.append((stream_id, start, start + count, now_s))

    def _report(self, write: _Write, error: Fatal | None) -> None:
        write.reported = True
        self.loop.trace.add(f"  disk {write.number}@{write.offset} {write.checksum:08x} {error!r}")
        self.loop.call_soon(write.done, error, context=write.context)


def frames_in(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(stream id, base offset, record count) of the frames of one write to a WAL segment, seals left out."""
    position = SEGMENT_HEADER_SIZE if content.startswith(SEGMENT_MAGIC) else 0
    while content.startswith(MAGIC, position):
        header = decode_frame_header(memoryview(content), position)
        if not header.flags & SEAL:
            yield header.stream_id, header.base_offset, header.record_count
        position += frame_size(header.length)


def _checksum(views: Sequence[memoryview]) -> int:
    value = 0
    for view in views:
        value = zlib.crc32(view, value)
    return value
