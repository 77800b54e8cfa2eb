"""The file WAL: frames in numbered segments, natural group commit, window 0.

While one write is under way everything appended queues; when it is done, the queue goes as one write. The first write
after idling starts in the same turn of the loop, after the callbacks that are ready, so all appends of that turn share
it. After a group of several, the next one waits up to a millisecond for those who were just answered: a sync costs the
same for one frame as for ten, and who is answered sends again (`_holds_back`). Nothing is acknowledged before the
device says durable, in LSN order; after one device error nothing is ever again.

Segments: a group lies in one segment; the next segment is made in the background when the current one is a quarter
full. Every WAL epoch starts in a fresh segment with the rewritten survivors of the epoch before, then a SEAL: until the
SEAL is durable the epoch acknowledges nothing and the older segments stay (`recovery.py` has the other half of it).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crc32c import crc32c
from typing_extensions import Buffer

from s3stream.errors import Fatal, Invalid, Retry
from s3stream.ports import WalDevice, WalRecord
from s3stream.wal.frame import (
    ALIGNMENT,
    FRAME_HEADER_SIZE,
    REWRITTEN,
    SEAL,
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    claim_durable,
    encode_group_part,
    encode_segment_header,
    frame_size,
    pack_crc,
    pack_frame_part,
)
from s3stream.wal.recovery import Recovered, recovery
from s3stream.wal.segments import SegmentKeeper

_HOLD_BYTES = 256 * 1024
"""A group of this size is written at once: the sync is a small part of it."""
_MOST_HOLDS_SKIPPED = 1024
_PADDING = [bytes(size) for size in range(ALIGNMENT)]
"""In front of a frame header, for the frame before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWalSettings:
    """`capacity_bytes`: disk space of the segments in use, at least four of them; the last one is a reserve for frame
    headers and the unused ends of segments, so `free_bytes` begins a segment below it. `grace_ms`: how long a trimmed
    segment is kept, unless its space is needed. `create_retry_ms`: pause after a disk without space. `accept_loss`:
    start up even if acknowledged frames cannot be read, with what precedes them. `hold_ms`: how long a group waits at
    most for those whom the one before it answered."""

    capacity_bytes: int = 1024 * 1024 * 1024
    grace_ms: int = 0
    create_retry_ms: int = 1000
    accept_loss: bool = False
    hold_ms: float = 1.0


class WalStats:
    """Counters since the start: durable groups, frames, bytes with headers, and the time of the writes."""

    __slots__ = ("bytes_written", "frames", "groups", "slowest_write_s", "write_s")

    def __init__(self) -> None:
        self.groups = 0
        self.frames = 0
        self.bytes_written = 0
        self.write_s = 0.0
        self.slowest_write_s = 0.0


class _Group:
    """Frames that are written together: `buffers` back to back at `offset` of `segment`.

    `common` is the part of the frame headers that they share, which claims `durable_lsn`.
    """

    __slots__ = ("buffers", "common", "common_crc", "durable_lsn", "end", "entries", "first_lsn", "offset", "segment")

    def __init__(self, segment: int, offset: int, first_lsn: int, durable_lsn: int, common: bytes) -> None:
        self.segment = segment
        self.offset = offset
        self.end = offset
        self.first_lsn = first_lsn
        self.durable_lsn = durable_lsn
        self.common = common
        self.common_crc = crc32c(common)
        self.buffers: list[Buffer] = []
        self.entries: list[object] = []


class FileWal:
    """`ports.Wal` over a `WalDevice`. `on_durable(entries)` per group and `on_fatal(error)`, once, run on the loop."""

    def __init__(
        self,
        device: WalDevice,
        settings: FileWalSettings,
        on_durable: Callable[[Sequence[object]], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.stats = WalStats()
        self.recovered: Recovered | None = None
        """What `recover` found; `loss` in it says what was given up, if `accept_loss` allowed it."""
        self._device, self._settings = device, settings
        self._on_durable, self._on_fatal = on_durable, on_fatal
        self._size = device.segment_size_bytes
        self.max_payload_bytes = self._size - SEGMENT_HEADER_SIZE - frame_size(0)
        """A larger payload fits no segment: refuse it before it gets an offset."""
        self._keeper = SegmentKeeper(
            device,
            settings.capacity_bytes,
            settings.grace_ms,
            settings.create_retry_ms,
            self._segments_changed,
            self._fail,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._old: list[int] = []
        self._wal_epoch = self._epoch_first_lsn = self._seal_lsn = 0
        self._next_lsn = 1
        self._durable_lsn = 0
        self._position = 0  # in segment `self._segment`, where the next frame goes
        self._segment = 0
        self._padding = 0  # before the next frame, if it goes into the same group
        self._previous_lsn = 0
        self._flags = REWRITTEN
        self._trim_lsn = 0
        self._group: _Group | None = None  # takes appends; the last one in `_waiting`
        self._waiting: deque[_Group] = deque()
        self._writing: _Group | None = None
        self._write_began = 0.0
        self._flush_scheduled = False
        self._expected = 0  # entries that the next group waits for, until `_hold_until_s`; 0: it does not wait
        self._hold_s = settings.hold_ms / 1000
        self._hold_until_s = 0.0
        self._hold: asyncio.TimerHandle | None = None
        self._holds_in_vain = 0
        self._holds_to_skip = 0
        self._accepting = False
        self._closed = False
        self._failure: Fatal | None = None
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    # -- life

    async def recover(self, trim_lsn: int) -> Sequence[WalRecord]:
        """See the port."""
        if self.recovered is not None:
            raise Invalid("the WAL was recovered already")
        self._old = list(await self._device.list_segments())
        steps = recovery(self._old, trim_lsn, accept_loss=self._settings.accept_loss)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(await self._device.read_segment(*wanted))
        except StopIteration as end:
            found: Recovered = end.value
        self.recovered = found._replace(records=[])
        self._next_lsn = found.next_lsn
        return found.records

    async def begin(self, wal_epoch: int, survivors: Sequence[WalRecord]) -> Sequence[int]:
        """See the port. Retry when the disk has no space for it; Invalid when `wal_epoch` is not above all it holds."""
        if self.recovered is None or self._wal_epoch or self._closed:
            raise Invalid("begin comes once, after recover")
        if wal_epoch <= self.recovered.wal_epoch:
            raise Invalid(
                f"the WAL holds epoch {self.recovered.wal_epoch}, the metadata grants {wal_epoch}: the metadata is "
                "older than the WAL or belongs to another one"
            )
        self._loop = asyncio.get_running_loop()
        self._wal_epoch = wal_epoch
        self._epoch_first_lsn = self._next_lsn
        await self._device.remove_segments(self.recovered.unused)
        self._segment = max(self._old, default=0) + 1
        self._position = SEGMENT_HEADER_SIZE
        await self._keeper.start(self._segment, self._next_lsn)
        lsns = [self.append(*record[1:], None) for record in survivors]
        if lsns:
            # The SEAL must not be on the disk before all of them are.
            await self._until_durable(lsns[-1])
        self._flags = SEAL
        self._seal_lsn = self.append(0, 0, 0, 0, 0, memoryview(b""), None)
        await self._until_durable(self._seal_lsn)
        self._flags = 0
        self._accepting = True
        await self._device.remove_segments([number for number in self._old if number not in self.recovered.unused])
        return lsns

    async def close(self) -> None:
        """Sync what is queued and stop. Retry when something could not be written for want of disk space."""
        if self._closed:
            return
        self._closed = True
        if self._hold is not None:
            self._end_hold()
        try:
            if self._writing is not None or self._waiting:
                await self._until_durable(self._next_lsn - 1)
        finally:
            await self._keeper.close()
            await self._device.close()

    def next_lsn(self) -> int:
        return self._next_lsn

    def durable_lsn(self) -> int:
        return self._durable_lsn

    # -- appending

    def free_bytes(self) -> int:
        """See the port. 0 after a failure and before `begin`; less than a segment while no segment can be created."""
        if not self._accepting or self._closed or self._failure is not None:
            return 0
        return max(0, self._keeper.bytes_ahead + self._size - self._position)

    def append(
        self,
        stream_id: int,
        stream_epoch: int,
        base_offset: int,
        record_count: int,
        max_timestamp_ms: int,
        payload: memoryview,
        entry: object,
    ) -> int:
        """See the port. Invalid above `max_payload_bytes`; Fatal after a failure or `close`."""
        length = len(payload)
        group = self._group
        start = self._position
        if group is None or start + FRAME_HEADER_SIZE + length > self._size:
            group = self._open_group(length)
            start = self._position
        lsn = self._next_lsn
        # The header of `frame.py`, whose part that is common to the group was made with it.
        part = pack_frame_part(
            length,
            lsn,
            self._previous_lsn,
            stream_id,
            base_offset,
            max_timestamp_ms,
            stream_epoch,
            record_count,
            crc32c(payload),
        )
        head = group.common + part + pack_crc(crc32c(part, group.common_crc))
        if self._padding:
            head = _PADDING[self._padding] + head
        self._next_lsn = lsn + 1
        self._previous_lsn = lsn
        buffers = group.buffers
        buffers.append(head)
        buffers.append(payload)
        group.entries.append(entry)
        group.end = end = start + FRAME_HEADER_SIZE + length
        self._padding = padding = -end & 7
        self._position = end + padding
        if self._hold is not None and (len(group.entries) >= self._expected or end - group.offset >= _HOLD_BYTES):
            self._end_hold()
        return lsn

    def _open_group(self, length: int) -> _Group:
        """A new group for a frame of `length`, in the next segment if this one has no room for it."""
        if self._failure is not None:
            raise self._failure
        if self._closed or not self._wal_epoch:
            raise Fatal("append to a WAL that is closed or did not begin yet")
        if length > self.max_payload_bytes:
            raise Invalid(f"a payload of {length} bytes: a WAL segment has room for {self.max_payload_bytes}")
        if self._position + FRAME_HEADER_SIZE + length > self._size:
            self._segment += 1
            self._position = SEGMENT_HEADER_SIZE
            self._keeper.advance(self._segment, self._next_lsn)
        elif self._position * 4 > self._size:
            self._keeper.prepare()
        self._padding = 0
        common = encode_group_part(self._flags, self._segment, self._wal_epoch, self._durable_lsn)
        group = self._group = _Group(self._segment, self._position, self._next_lsn, self._durable_lsn, common)
        self._waiting.append(group)
        if self._writing is None and not self._flush_scheduled and self._loop is not None:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        return group

    def _expect(self, answered: int) -> None:
        """A group of `answered` entries is durable: whoever waits for that sends next, and may share a sync."""
        self._expected = 0
        if answered < 2 or len(self._waiting) > 1 or not self._hold_s or self._loop is None:
            return
        if self._holds_to_skip:
            self._holds_to_skip -= 1
            return
        waiting = len(self._waiting[0].entries) if self._waiting else 0
        self._expected = answered + waiting
        self._hold_until_s = self._loop.time() + self._hold_s

    def _holds_back(self, group: _Group, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether `group`, which could be written now, waits for those who were just answered."""
        if not self._expected:
            return False
        enough = len(group.entries) >= self._expected or group.end - group.offset >= _HOLD_BYTES
        if enough or group is not self._group or self._closed or loop.time() >= self._hold_until_s:
            self._expected = 0
            if self._hold is not None:
                self._hold.cancel()
                self._hold = None
            return False
        if self._hold is None:
            self._hold = loop.call_at(self._hold_until_s, self._end_hold)
        return True

    def _end_hold(self) -> None:
        """The expected entries came, or the time is over. Waiting in vain is done ever more seldom."""
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        entries = len(self._group.entries) if self._group is not None else 0
        if 2 * entries >= self._expected:
            self._holds_in_vain = 0
        else:
            self._holds_in_vain += 1
            self._holds_to_skip = min(8 << min(self._holds_in_vain, 16), _MOST_HOLDS_SKIPPED)
        self._expected = 0
        if not self._flush_scheduled and self._loop is not None:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        self._write_next()

    def _segments_changed(self, error: Retry | None) -> None:
        """The keeper made a segment, or could not for now."""
        if error is not None and (self._closed or not self._accepting):
            self._release(error)
        self._write_next()

    def _write_next(self) -> None:
        if self._writing is not None or not self._waiting or self._failure is not None or self._loop is None:
            return
        group = self._waiting[0]
        if not self._keeper.is_ready(group.segment) or self._holds_back(group, self._loop):
            return
        self._waiting.popleft()
        if group is self._group:
            self._group = None
        buffers, offset = group.buffers, group.offset
        # The others may claim less than is known by now; one whole claim per group is enough.
        if group.durable_lsn != self._durable_lsn:
            buffers[0] = claim_durable(buffers[0], self._durable_lsn)
        if offset == SEGMENT_HEADER_SIZE:
            sealed = 0 < self._seal_lsn <= self._durable_lsn
            header = SegmentHeader(sealed, group.segment, self._wal_epoch, group.first_lsn, self._epoch_first_lsn)
            buffers.insert(0, encode_segment_header(header))
            offset = 0
        self._writing = group
        self._write_began = self._loop.time()
        self._device.write(group.segment, offset, buffers, self._written)

    def _written(self, error: BaseException | None) -> None:
        group, self._writing = self._writing, None
        if group is None or self._loop is None or self._failure is not None:
            return
        if error is not None:
            self._fail(error)
            return
        stats = self.stats
        took_s = self._loop.time() - self._write_began
        stats.groups += 1
        stats.frames += len(group.entries)
        stats.bytes_written += group.end - group.offset
        stats.write_s += took_s
        if took_s > stats.slowest_write_s:
            stats.slowest_write_s = took_s
        self._durable_lsn = group.first_lsn + len(group.entries) - 1
        if self._accepting:
            self._expect(len(group.entries))
        self._write_next()  # the disk first, then those who wait
        if group.offset == SEGMENT_HEADER_SIZE and self._trim_lsn:
            self.trim(self._trim_lsn)  # what had to stay until this segment had something durable
        if self._awaited:
            self._release(None)
        if self._accepting:
            self._on_durable(group.entries)

    def _fail(self, error: BaseException) -> None:
        """The first error of the device ends all acknowledgement."""
        if self._failure is not None:
            return
        self._failure = error if isinstance(error, Fatal) else Fatal(f"the WAL failed: {error!r}")
        self._waiting.clear()
        self._group = None
        self._release(self._failure)
        self._on_fatal(self._failure)

    # -- waiting, trimming

    async def _until_durable(self, lsn: int) -> None:
        if self._failure is not None:
            raise self._failure
        if lsn > self._durable_lsn:
            reached = asyncio.get_running_loop().create_future()
            self._awaited.append((lsn, reached))
            await reached

    def _release(self, error: BaseException | None) -> None:
        """Tell those who wait for what is durable now; all of them, if with an error."""
        awaited, self._awaited = self._awaited, []
        for lsn, reached in awaited:
            if reached.done():
                continue
            if error is not None:
                reached.set_exception(error)
            elif lsn <= self._durable_lsn:
                reached.set_result(None)
            else:
                self._awaited.append((lsn, reached))

    def trim(self, lsn: int) -> None:
        """See the port. Never beyond what is durable, and never the segment that is being written. The newest segment
        with something durable in it stays, too, even if all of that is trimmed: it alone shows the next start that
        this WAL is the one that the metadata have seen, until its successor has a durable frame."""
        if self._accepting:
            self._trim_lsn = max(self._trim_lsn, lsn)
            self._keeper.trim(min(lsn, self._durable_lsn))
