"""What a log remembers of its idempotent producers, and the STATE block that carries it from upload to upload.

Rules of Kafka's ProducerStateManager / ProducerAppendInfo (KIP-98): the last five batches of each producer are kept;
a batch equal to one of them is a duplicate and is answered with the original's offset; otherwise the sequence must go
on where it stopped, or the epoch be newer and the sequence start at zero.

The state at the end of a run of batches is `fold(state at its start, the run)`: a pure function, so the upload, the
recovery and another broker's takeover all compute the same bytes, and never a state that is ahead of the cut.

STATE content, big-endian, version 1: version u8 | entries u32 | entry*;
entry = producer_id i64 | producer_epoch i16 | coordinator_epoch i32 | open transaction's first offset i64 (-1: none) |
batches u8 | batch*;
batch = first_sequence i32 | last_sequence i32 | last_offset i64 | offset_delta i32 | timestamp i64.
Entries stand in order of their last write.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import ErrorCode
from protocol.record_batch import ATTRIBUTES_AT, CONTROL, parse_batch_header
from s3stream.stream_state import StateFold

KEPT_BATCHES = 5
_VERSION = 1
_MAX_SEQUENCE: Final = 2**31 - 1
_HEAD = struct.Struct(">BI")
_ENTRY = struct.Struct(">qhiqB")
_BATCH = struct.Struct(">iiqiq")
_REPLAYED = struct.Struct(">h12xqq")  # of a batch header from its attributes on: those, max timestamp, producer id

DEFAULT_EXPIRATION_MS = 86_400_000
"""Kafka's `producer.id.expiration.ms`."""
_ALWAYS_KEPT = 1_000
"""Producers that never expire by time, the latest to write: their clock may be far from ours."""
_MAX_PRODUCERS = 100_000
"""Kept per log; beyond it the producers that wrote longest ago are forgotten."""


class SentBatch(NamedTuple):
    first_sequence: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int

    @property
    def base_offset(self) -> int:
        return self.last_offset - self.offset_delta


_Sent: TypeAlias = tuple[int, int, int, int, int]
"""A SentBatch as it is kept: a plain tuple is made in a tenth of the time."""


class Producer:
    """One producer id's history in one log."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "next_sequence", "transaction_first_offset")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[_Sent] = []
        self.next_sequence = -1
        """What the sequence goes on with; -1 before the first batch."""
        self.coordinator_epoch = -1
        self.transaction_first_offset = -1


class CorruptState(ValueError):
    """A STATE block that does not parse."""


class ProducerState:
    """All producers of one log. `check` decides, `record` is the only mutation."""

    __slots__ = ("_latest", "producers")

    def __init__(self) -> None:
        self.producers: dict[int, Producer] = {}
        self._latest = -1
        """The id that stands last in `producers`; -1: not known."""

    def check(self, producer_id: int, epoch: int, first: int, delta: int) -> SentBatch | ErrorCode | None:
        """Of a batch whose sequence numbers are `first` to `first + delta`. None = append it; a SentBatch = duplicate
        of that one; an ErrorCode = refuse."""
        producer = self.producers.get(producer_id)
        if producer is None or (first == producer.next_sequence and epoch == producer.epoch):
            return None
        if epoch < producer.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if epoch > producer.epoch:
            return None if first == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        last = _advance(first, delta)
        for sent in producer.batches:
            if sent[0] == first and sent[1] == last:
                return SentBatch(*sent)
        return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER if producer.batches else None

    def record(self, producer_id: int, epoch: int, first: int, delta: int, timestamp: int, base_offset: int) -> None:
        """Take note of a batch that was appended at `base_offset`, with its max timestamp. Does not validate: replay
        applies what was accepted once."""
        producers = self.producers
        producer = producers.get(producer_id)
        if producer is None or producer.epoch != epoch:
            successor = Producer(epoch)
            if producer is not None:
                successor.coordinator_epoch = producer.coordinator_epoch
            producers[producer_id] = producer = successor
        if producer_id != self._latest:  # the latest to write stands last
            del producers[producer_id]
            producers[producer_id] = producer
            self._latest = producer_id
        last = first + delta if first <= _MAX_SEQUENCE - delta else _advance(first, delta)
        producer.next_sequence = last + 1 if last < _MAX_SEQUENCE else 0
        batches = producer.batches
        if len(batches) == KEPT_BATCHES:
            del batches[0]
        batches.append((first, last, base_offset + delta, delta, timestamp))
        if len(producers) > _MAX_PRODUCERS:
            del producers[next(iter(producers))]

    def expire(self, now_ms: int, expiration_ms: int = DEFAULT_EXPIRATION_MS) -> None:
        """Forget producers whose last batch is older than `expiration_ms`, but never the latest thousand."""
        surplus = len(self.producers) - _ALWAYS_KEPT
        if surplus <= 0:
            return
        old = [
            producer_id
            for producer_id, producer in list(self.producers.items())[:surplus]
            if producer.batches[-1][4] < now_ms - expiration_ms
        ]
        for producer_id in old:
            del self.producers[producer_id]

    def encode(self) -> bytes:
        """Order of last write is kept: the first entry is the next to be forgotten."""
        parts = [_HEAD.pack(_VERSION, len(self.producers))]
        for producer_id, producer in self.producers.items():
            parts.append(
                _ENTRY.pack(
                    producer_id,
                    producer.epoch,
                    producer.coordinator_epoch,
                    producer.transaction_first_offset,
                    len(producer.batches),
                )
            )
            parts.extend(_BATCH.pack(*sent) for sent in producer.batches)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes | memoryview | None) -> ProducerState:
        """The state that `encode` wrote; None is the empty one. CorruptState for anything else."""
        state = cls()
        if data is None:
            return state
        try:
            version, count = _HEAD.unpack_from(data, 0)
            if version != _VERSION:
                raise CorruptState(f"STATE version {version}: this build reads version {_VERSION}")
            position = _HEAD.size
            for _ in range(count):
                producer_id, epoch, coordinator_epoch, first_offset, batches = _ENTRY.unpack_from(data, position)
                position += _ENTRY.size
                producer = Producer(epoch)
                producer.coordinator_epoch = coordinator_epoch
                producer.transaction_first_offset = first_offset
                for _ in range(batches):
                    producer.batches.append(_BATCH.unpack_from(data, position))
                    position += _BATCH.size
                if producer.batches:
                    producer.next_sequence = _advance(producer.batches[-1][1], 1)
                state.producers[producer_id] = producer
        except struct.error as error:
            raise CorruptState(f"STATE block of {len(data)} bytes ends too early: {error}") from error
        if position != len(data):
            raise CorruptState(f"STATE block of {len(data)} bytes: {len(data) - position} bytes left over")
        return state

    def replay(self, batches: Sequence[memoryview]) -> int:
        """Apply stored batches, whole ones, in order; the highest timestamp seen (-1: none from producers)."""
        newest = -1
        by_producer: dict[int, list[memoryview]] = {}
        for batch in reversed(batches):
            attributes, timestamp, producer_id = _REPLAYED.unpack_from(batch, ATTRIBUTES_AT)
            if producer_id < 0 or attributes & CONTROL:
                continue
            if timestamp > newest:
                newest = timestamp
            found = by_producer.get(producer_id)
            if found is None:
                by_producer[producer_id] = [batch]
            elif len(found) < KEPT_BATCHES:
                found.append(batch)
        if len(self.producers) + len(by_producer) <= _MAX_PRODUCERS:
            # Only the last five of each leave a trace. `by_producer` begins with the latest to write.
            for found in reversed(by_producer.values()):
                for batch in reversed(found):
                    self._replay_one(batch)
        else:  # some are forgotten on the way
            for batch in batches:
                self._replay_one(batch)
        return newest

    def _replay_one(self, batch: memoryview) -> None:
        header = parse_batch_header(batch)
        if header.producer_id >= 0 and not header.is_control:
            _, _, _, _, _, _, delta, _, timestamp, producer_id, epoch, first, _ = header
            self.record(producer_id, epoch, first, delta, timestamp, header.base_offset)


def fold(state: bytes | None, batches: Sequence[memoryview]) -> StateFold:
    """The engine's `FoldState`. State None while no idempotent producer ever wrote; nothing is ever aborted yet."""
    producers = ProducerState.decode(state)
    newest = producers.replay(batches)
    if newest >= 0:
        producers.expire(newest)
    return StateFold(producers.encode() if producers.producers else None, ())


def _advance(sequence: int, by: int) -> int:
    """Sequence numbers wrap from 2^31 - 1 to 0."""
    return sequence + by if sequence <= _MAX_SEQUENCE - by else sequence - (_MAX_SEQUENCE - by) - 1
