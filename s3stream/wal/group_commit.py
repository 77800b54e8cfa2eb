"""Group commit: frames queue into groups, a group is one write of the device, one write is under way at a time.

While one write is under way everything appended queues; when it is done, the queue goes as one write. The first write
after idling starts in the same turn of the loop, after the callbacks that are ready, so all appends of that turn share
it. After a group of several, the next one waits up to a millisecond for those who were just answered: a sync costs the
same for one frame as for ten, and who is answered sends again (`_holds_back`). Nothing is acknowledged before the
device says durable, in LSN order; after one device error nothing is ever again.

A group lies in one segment; the next segment is made in the background when the current one is a quarter full. Nothing
in this module waits, so that it can be compiled; `file_wal.py` has the life of the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from crc32c import crc32c
from typing_extensions import Buffer

from s3stream.errors import Fatal, Invalid, Retry
from s3stream.ports import WalDevice
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
from s3stream.wal.segments import SegmentKeeper

_HOLD_BYTES: Final = 256 * 1024
"""A group of this size is written at once: the sync is a small part of it."""
_MOST_HOLDS_SKIPPED: Final = 1024
_PADDING: Final = [bytes(size) for size in range(ALIGNMENT)]
"""In front of a frame header, for the frame before it."""
# Compiled code finds a Final of its own at once, an imported name by its spelling.
_crc32c: Final = crc32c
_pack_part: Final = pack_frame_part
_pack_crc: Final = pack_crc


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


class GroupCommit:
    """The frames of one WAL epoch, from `append` to durable. `on_durable(entries)` per group and `on_fatal(error)`,
    once, run on the loop.

    `capacity_bytes`, `grace_ms` and `retry_ms` are for the segments; `hold_ms` is how long a group waits at most.
    """

    def __init__(
        self,
        device: WalDevice,
        *,
        capacity_bytes: int,
        grace_ms: int,
        retry_ms: int,
        hold_ms: float,
        on_durable: Callable[[Sequence[object]], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.stats = WalStats()
        self.next_lsn = 1
        self.durable_lsn = 0
        self.position = 0
        """In segment `segment`: where the next frame goes."""
        self.segment = 0
        self.keeper = SegmentKeeper(device, capacity_bytes, grace_ms, retry_ms, self._segments_changed, self._fail)
        self._device = device
        self._on_durable, self._on_fatal = on_durable, on_fatal
        self._size = device.segment_size_bytes
        self.max_payload_bytes = self._size - SEGMENT_HEADER_SIZE - frame_size(0)
        """A larger payload fits no segment."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wal_epoch = self._epoch_first_lsn = self._seal_lsn = 0
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
        self._hold_s = hold_ms / 1000
        self._hold_until_s = 0.0
        self._hold: asyncio.TimerHandle | None = None
        self._holds_in_vain = 0
        self._holds_to_skip = 0
        self._accepting = False
        self._stopping = False
        self._failure: Fatal | None = None
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    # -- life of the epoch

    def begin(self, wal_epoch: int, segment: int) -> None:
        """Frames go to `segment` from now on, which is fresh. They are survivors of the epoch before, up to `seal`."""
        self._loop = asyncio.get_running_loop()
        self._wal_epoch = wal_epoch
        self._epoch_first_lsn = self.next_lsn
        self.segment = segment
        self.position = SEGMENT_HEADER_SIZE

    def seal(self) -> int:
        """Append the SEAL; its LSN. The survivors are durable."""
        self._flags = SEAL
        self._seal_lsn = self.append(0, 0, 0, 0, 0, memoryview(b""), None)
        return self._seal_lsn

    def accept(self) -> None:
        """The SEAL is durable: acknowledge what is appended from now on."""
        self._flags = 0
        self._accepting = True

    def stop(self) -> bool:
        """Hold nothing back any more; whether something is still to be written."""
        self._stopping = True
        if self._hold is not None:
            self._end_hold()
        return self._writing is not None or bool(self._waiting)

    def reached(self, lsn: int) -> asyncio.Future[None] | None:
        """Done when `lsn` is durable, with the error if it never will be; None if it is. Raises what failed before."""
        if self._failure is not None:
            raise self._failure
        if lsn <= self.durable_lsn:
            return None
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append((lsn, reached))
        return reached

    def trim(self, lsn: int) -> None:
        """See the port. Never beyond what is durable, and never the segment that is being written. The newest segment
        with something durable in it stays, too, even if all of that is trimmed: it alone shows the next start that
        this WAL is the one that the metadata have seen, until its successor has a durable frame."""
        if self._accepting:
            self._trim_lsn = max(self._trim_lsn, lsn)
            self.keeper.trim(min(lsn, self.durable_lsn))

    # -- appending

    def free_bytes(self) -> int:
        """See the port. 0 after a failure and before `accept`; less than a segment while none can be created."""
        if not self._accepting or self._stopping or self._failure is not None:
            return 0
        return max(0, self.keeper.bytes_ahead + self._size - self.position)

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
        """See the port. Invalid above `max_payload_bytes`; Fatal after a failure or `stop`."""
        length = len(payload)
        group = self._group
        start = self.position
        if group is None or start + FRAME_HEADER_SIZE + length > self._size:
            group = self._open_group(length)
            start = self.position
        lsn = self.next_lsn
        # The header of `frame.py`, whose part that is common to the group was made with it.
        part = _pack_part(
            length,
            lsn,
            self._previous_lsn,
            stream_id,
            base_offset,
            max_timestamp_ms,
            stream_epoch,
            record_count,
            _crc32c(payload),
        )
        head = group.common + part + _pack_crc(_crc32c(part, group.common_crc))
        if self._padding:
            head = _PADDING[self._padding] + head
        self.next_lsn = lsn + 1
        self._previous_lsn = lsn
        buffers = group.buffers
        buffers.append(head)
        buffers.append(payload)
        group.entries.append(entry)
        group.end = end = start + FRAME_HEADER_SIZE + length
        self._padding = padding = -end & 7
        self.position = end + padding
        if self._hold is not None and (len(group.entries) >= self._expected or end - group.offset >= _HOLD_BYTES):
            self._end_hold()
        return lsn

    def _open_group(self, length: int) -> _Group:
        """A new group for a frame of `length`, in the next segment if this one has no room for it."""
        if self._failure is not None:
            raise self._failure
        if self._stopping or not self._wal_epoch:
            raise Fatal("append to a WAL that is closed or did not begin yet")
        if length > self.max_payload_bytes:
            raise Invalid(f"a payload of {length} bytes: a WAL segment has room for {self.max_payload_bytes}")
        if self.position + FRAME_HEADER_SIZE + length > self._size:
            self.segment += 1
            self.position = SEGMENT_HEADER_SIZE
            self.keeper.advance(self.segment, self.next_lsn)
        elif self.position * 4 > self._size:
            self.keeper.prepare()
        self._padding = 0
        common = encode_group_part(self._flags, self.segment, self._wal_epoch, self.durable_lsn)
        group = self._group = _Group(self.segment, self.position, self.next_lsn, self.durable_lsn, common)
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
        if enough or group is not self._group or self._stopping or loop.time() >= self._hold_until_s:
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
        if error is not None and (self._stopping or not self._accepting):
            self._release(error)
        self._write_next()

    def _write_next(self) -> None:
        if self._writing is not None or not self._waiting or self._failure is not None or self._loop is None:
            return
        group = self._waiting[0]
        if not self.keeper.is_ready(group.segment) or self._holds_back(group, self._loop):
            return
        self._waiting.popleft()
        if group is self._group:
            self._group = None
        buffers, offset = group.buffers, group.offset
        # The others may claim less than is known by now; one whole claim per group is enough.
        if group.durable_lsn != self.durable_lsn:
            buffers[0] = claim_durable(buffers[0], self.durable_lsn)
        if offset == SEGMENT_HEADER_SIZE:
            sealed = 0 < self._seal_lsn <= self.durable_lsn
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
        self.durable_lsn = group.first_lsn + len(group.entries) - 1
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

    def _release(self, error: BaseException | None) -> None:
        """Tell those who wait for what is durable now; all of them, if with an error."""
        awaited, self._awaited = self._awaited, []
        for lsn, reached in awaited:
            if reached.done():
                continue
            if error is not None:
                reached.set_exception(error)
            elif lsn <= self.durable_lsn:
                reached.set_result(None)
            else:
                self._awaited.append((lsn, reached))
