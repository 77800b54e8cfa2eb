"""What the segments of a WAL still promise: from bytes to the acknowledged frames, or Corrupt. Pure.

The newest epoch with a SEAL counts. An epoch without one never acknowledged anything, its frames are copies of those
of the epoch before; older epochs were replaced. Inside the epoch, frames are read in LSN order from the trim point on
until one is missing or does not verify. That one was acknowledged if something that was written later claims so: a
frame header whose `durable_lsn` is at or beyond it, or the header of a later segment (a segment is begun only when all
frames before it are durable). Then the WAL is Corrupt. Otherwise it and everything behind it were never acknowledged: a
power cut inside a group leaves frame 2 torn and frame 3 whole.

A frame is taken as a record only at the place where it belongs: right behind the frame before it. Headers that are
found by searching behind a break serve as evidence only, so nothing that a producer put into a payload becomes a frame.

Segments are asked for one at a time and not kept: a restart takes the memory of what is returned and of two segments,
and does not read what the trim point has passed, however much of it is still there for its grace.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from typing_extensions import Buffer

from s3stream.errors import Corrupt
from s3stream.ports import WalRecord
from s3stream.wal.frame import (
    ALIGNMENT,
    MAGIC,
    REWRITTEN,
    SEAL,
    SEGMENT_HEADER_SIZE,
    FrameHeader,
    NewerFormat,
    SegmentHeader,
    decode_frame_header,
    decode_payload,
    decode_segment_header,
    frame_size,
)

_U32 = 0xFFFFFFFF
_ADVICE = (
    "Nothing was changed. Restore the WAL folder from an intact copy; to give up what cannot be read, start once with "
    "accept_loss set"
)


class Wanted(NamedTuple):
    """The content of a segment that recovery asks for: its first `size_bytes`, None for all of it."""

    segment: int
    size_bytes: int | None


class Recovered(NamedTuple):
    """What recovery found.

    `records`: acknowledged frames (and perhaps some that were not) at or above the trim point, without a hole; their
    payloads are copies.
    `next_lsn`: above every LSN that was ever used. `wal_epoch`: the highest epoch found, 0 for none. `unused`: segments
    with nothing of their own in them. `discarded`: frames behind the break, never acknowledged. `loss`: what was given
    up because the caller accepts losses, None for nothing.
    """

    records: list[WalRecord]
    next_lsn: int
    wal_epoch: int
    unused: list[int]
    discarded: int
    loss: str | None


class _Segment:
    """One file, looked through once. `header` is None if it does not verify: the frames say where they belong.

    Kept per frame header that verifies, in file order: offset, end, LSN, and whether it lies right behind the frame
    before it (or first in the segment). The content itself comes and goes (`hold`, `release`).
    """

    def __init__(self, number: int, header: SegmentHeader | None) -> None:
        self.number = number
        self.data: bytes | bytearray = b""
        self.view = memoryview(self.data)
        self.header = header
        self.wal_epoch = header.wal_epoch if header is not None else 0
        self.offsets = array("q")
        self.ends = array("q")
        self.lsns = array("q")
        self.joined = bytearray()
        self.sealed = header is not None and header.sealed
        self.rewritten = False
        self.epoch_first_lsn = header.epoch_first_lsn if header is not None else 0
        self.claim = 0
        self.claimed_at = ""
        if header is not None and header.first_lsn > header.epoch_first_lsn:
            self.claim, self.claimed_at = header.first_lsn - 1, f"the header of segment {number}"

    def hold(self, content: Buffer) -> None:
        self.data = content if isinstance(content, (bytes, bytearray)) else bytes(content)
        self.view = memoryview(self.data)

    def release(self) -> None:
        self.data = b""
        self.view = memoryview(self.data)

    def look_through(self, content: Buffer) -> None:
        """Find the frames."""
        self.hold(content)
        self._find_frames()
        self.release()

    def _find_frames(self) -> None:
        offset = SEGMENT_HEADER_SIZE
        joined = True
        while offset >= 0:
            header = self.own_frame(offset)
            if header is None:
                joined = False
                offset = self.data.find(MAGIC, offset + 1)
                while offset >= 0 and offset % ALIGNMENT:
                    offset = self.data.find(MAGIC, offset + 1)
                continue
            end = offset + frame_size(header.length)
            self._note(offset, end, header, joined)
            joined = True
            offset = end

    def _note(self, offset: int, end: int, header: FrameHeader, joined: bool) -> None:
        self.wal_epoch = header.wal_epoch
        self.offsets.append(offset)
        self.ends.append(end)
        self.lsns.append(header.lsn)
        self.joined.append(joined)
        if header.flags & SEAL or not header.flags & REWRITTEN:
            self.sealed = True
        else:
            self.rewritten = True
        if header.previous_lsn == 0 and not self.epoch_first_lsn:
            self.epoch_first_lsn = header.lsn
        if header.durable_lsn > self.claim:
            self.claim, self.claimed_at = header.durable_lsn, f"segment {self.number}, offset {offset}"

    def own_frame(self, offset: int) -> FrameHeader | None:
        """The frame header at `offset` if it verifies and was written for this segment and epoch."""
        if self.data[offset : offset + len(MAGIC)] != MAGIC:
            return None
        try:
            header = decode_frame_header(self.view, offset)
        except NewerFormat as error:
            raise NewerFormat(f"WAL segment {self.number}, offset {offset}: {error}") from None
        except Corrupt:
            return None
        if header.segment != self.number & _U32 or (self.wal_epoch and header.wal_epoch != self.wal_epoch):
            return None
        return header

    def highest_lsn(self) -> int:
        return max(max(self.lsns, default=0), self.header.first_lsn - 1 if self.header is not None else 0)

    def describe(self, offset: int) -> str:
        """Why there is no good frame at `offset`, for an error message."""
        try:
            header = decode_frame_header(self.view, offset)
            decode_payload(self.view, offset, header)
        except Corrupt as error:
            return str(error)
        return f"found LSN {header.lsn} of WAL epoch {header.wal_epoch}, written for segment {header.segment}"


def recovery(
    numbers: Sequence[int], trim_lsn: int, *, accept_loss: bool = False
) -> Generator[Wanted, Buffer, Recovered]:
    """Find out what the segments `numbers` (ascending) hold; asks for content, see `Recovered`.

    Corrupt when acknowledged frames cannot be read. With `accept_loss` what precedes the damage is returned and the
    loss is described instead.
    """
    parsed: list[_Segment] = []
    for number in numbers:
        head = yield Wanted(number, SEGMENT_HEADER_SIZE)
        parsed.append(_Segment(number, _own_header(memoryview(head), number)))
    for segment, following in zip_longest(parsed, parsed[1:]):
        if not _is_trimmed(segment, following, trim_lsn):
            segment.look_through((yield Wanted(segment.number, None)))
    used = [segment for segment in parsed if segment.wal_epoch]
    unused = [segment.number for segment in parsed if not segment.wal_epoch]
    epochs = sorted({segment.wal_epoch for segment in used}, reverse=True)
    records: list[WalRecord] = []
    discarded = 0
    for wal_epoch in epochs:
        members = [segment for segment in used if segment.wal_epoch == wal_epoch]
        if any(segment.sealed for segment in members):
            chain = _Chain(members, trim_lsn)
            loss = yield from chain.read()
            records, discarded = chain.records, chain.discarded
            break
    else:
        loss = _loss_without_seal(used, trim_lsn)
    if loss is not None and not accept_loss:
        raise Corrupt(f"{loss}. {_ADVICE}")
    seen = [trim_lsn - 1, 0, *(lsn for segment in used for lsn in (segment.highest_lsn(), segment.claim))]
    return Recovered(records, max(seen) + 1, epochs[0] if epochs else 0, unused, discarded, loss)


def _is_trimmed(segment: _Segment, following: _Segment | None, trim_lsn: int) -> bool:
    """Whether all frames of `segment` lie below the trim point, and whatever they testify is in the next header."""
    if segment.header is None or following is None or following.header is None:
        return False
    after = following.header
    return after.wal_epoch == segment.header.wal_epoch and after.sealed and after.first_lsn <= trim_lsn


class _Chain:
    """Reads the frames of one sealed epoch in LSN order, up to the first that is missing or damaged."""

    def __init__(self, members: list[_Segment], trim_lsn: int) -> None:
        self.records: list[WalRecord] = []
        self.discarded = 0
        self._members = members
        first_lsn = next((segment.epoch_first_lsn for segment in members if segment.epoch_first_lsn), 0)
        # If damage hides where the epoch begins, the trim point alone says what is needed.
        self._start = self._expected = max(trim_lsn, first_lsn, 1)
        self._broken: str | None = None
        # Where the next frame belongs, for the message; and its LSN, also below the trim point.
        self._at = (members[0], SEGMENT_HEADER_SIZE)
        self._next_lsn = 0

    def read(self) -> Generator[Wanted, Buffer, str | None]:
        """All members; what acknowledged frames cannot be read, None if there are none."""
        for segment in self._members:
            if max(segment.lsns, default=0) >= self._expected:
                segment.hold((yield Wanted(segment.number, None)))
            yield from self._read(segment)
            segment.release()
        evidence = max(self._members, key=lambda segment: segment.claim)
        if evidence.claim < self._expected:
            return None
        if self._broken is None:
            yield from self._break()
        return (
            f"{self._broken}; {evidence.claimed_at} says that LSN {evidence.claim} was durable: acknowledged records "
            f"from LSN {self._expected} on are lost"
        )

    def _break(self) -> Generator[Wanted, Buffer, None]:
        """There is no good frame where the next one belongs."""
        segment, offset = self._at
        held = bool(segment.data)
        if not held:
            segment.hold((yield Wanted(segment.number, None)))
        self._broken = (
            f"WAL segment {segment.number}, offset {offset}: expected a frame with LSN {self._expected}, "
            f"{segment.describe(offset)}"
        )
        if not held:
            segment.release()

    def _read(self, segment: _Segment) -> Generator[Wanted, Buffer, None]:
        if segment.header is not None:
            self._next_lsn = segment.header.first_lsn
            if self._broken is None and self._next_lsn <= self._expected:
                self._at = (segment, SEGMENT_HEADER_SIZE)
        frames = zip(segment.offsets, segment.ends, segment.lsns, segment.joined, strict=True)
        for offset, end, lsn, joined in frames:
            if self._broken is None:
                # A gap that begins below the trim point does not matter. Behind any other, nothing counts as a frame.
                passed = self._next_lsn < self._start and lsn <= self._start
                if lsn > self._expected or not (joined or passed):
                    yield from self._break()
                elif lsn == self._expected:
                    self._take(segment, offset)
            if self._broken is not None:
                self.discarded += lsn >= self._expected
                continue
            self._next_lsn = lsn + 1
            self._at = (segment, end)

    def _take(self, segment: _Segment, offset: int) -> None:
        header = segment.own_frame(offset)
        if header is None or header.lsn != self._expected:
            self._broken = (
                f"WAL segment {segment.number}, offset {offset}: the frame with LSN {self._expected} was there when "
                "the segment was read first, but not when it was read again"
            )
            return
        try:
            payload = decode_payload(segment.view, offset, header)
        except Corrupt as error:
            self._broken = (
                f"WAL segment {segment.number}, offset {offset}: the frame with LSN {header.lsn} is damaged, {error}"
            )
            return
        self._expected += 1
        if not header.flags & SEAL:
            self.records.append(
                WalRecord(
                    header.lsn,
                    header.stream_id,
                    header.stream_epoch,
                    header.base_offset,
                    header.record_count,
                    header.max_timestamp_ms,
                    memoryview(bytes(payload)),  # a view of one small frame would hold its whole segment
                )
            )


def _own_header(view: memoryview, number: int) -> SegmentHeader | None:
    try:
        header = decode_segment_header(view)
    except NewerFormat as error:
        raise NewerFormat(f"WAL segment {number}: {error}") from None
    except Corrupt:
        return None
    # Another number: a recycled file that nothing was written to yet.
    return header if header.number == number else None


def _loss_without_seal(used: list[_Segment], trim_lsn: int) -> str | None:
    for segment in used:
        if segment.rewritten:
            return (
                f"WAL segment {segment.number} holds frames of epoch {segment.wal_epoch} that were rewritten from an "
                "earlier epoch, but neither the SEAL behind them nor that earlier epoch is there"
            )
    if trim_lsn > 0:
        return (
            f"the metadata has seen this WAL up to LSN {trim_lsn - 1}, but its segments are gone: this is another or "
            "an emptied WAL folder"
        )
    return None
