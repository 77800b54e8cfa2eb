"""Picks bits of a WAL whose loss an engine can notice: those of frames that something written later calls durable.

The last group of a WAL has no such witness: to lose it to a rotten bit looks exactly like a power cut in the middle of
its write, and no engine with one copy can tell. So rot keeps to the frames before it, where it must be refused as
Corrupt, never served and never taken for the end of the log.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from s3stream.errors import Corrupt
from s3stream.wal.frame import FRAME_HEADER_SIZE, SEGMENT_HEADER_SIZE, FrameHeader, decode_frame_header, frame_size

_U32 = 0xFFFFFFFF


class Flip(NamedTuple):
    """One bit of a segment."""

    segment: int
    offset: int
    bit: int


class _Frame(NamedTuple):
    segment: int
    start: int
    end: int
    wal_epoch: int
    lsn: int


def pick_flip(segments: Mapping[int, bytes | bytearray], rng: random.Random, only: int | None = None) -> Flip | None:
    """A bit of a witnessed frame (of segment `only`, if given); None when there is no such frame."""
    frames: list[_Frame] = []
    claims: dict[int, int] = {}  # WAL epoch -> the highest LSN that one of its frames calls durable
    for number in sorted(segments):
        for start, header in _frames_of(number, segments[number]):
            end = start + FRAME_HEADER_SIZE + header.length
            frames.append(_Frame(number, start, end, header.wal_epoch, header.lsn))
            claims[header.wal_epoch] = max(claims.get(header.wal_epoch, 0), header.durable_lsn)
    witnessed = [frame for frame in frames if frame.lsn <= claims[frame.wal_epoch] and only in (None, frame.segment)]
    if not witnessed:
        return None
    frame = rng.choice(witnessed)
    return Flip(frame.segment, rng.randrange(frame.start, frame.end), rng.randrange(8))


def _frames_of(number: int, content: bytes | bytearray) -> list[tuple[int, FrameHeader]]:
    """The frames that stand one behind the other from the start of the segment, with their offsets."""
    found: list[tuple[int, FrameHeader]] = []
    view = memoryview(content)
    offset = SEGMENT_HEADER_SIZE
    while True:
        try:
            header = decode_frame_header(view, offset)
        except Corrupt:
            return found
        if header.segment != number & _U32:
            return found  # stale content of a recycled segment
        found.append((offset, header))
        offset += frame_size(header.length)
