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
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from protocol.errors import ErrorCode
from protocol.record_batch import BatchHeader, parse_batch_header
from s3stream.stream_state import StateFold

KEPT_BATCHES = 5
_VERSION = 1
_MAX_SEQUENCE = 2**31 - 1
_HEAD = struct.Struct(">BI")
_ENTRY = struct.Struct(">qhiqB")
_BATCH = struct.Struct(">iiqiq")

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


class Producer:
    """One producer id's history in one log."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "transaction_first_offset")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[SentBatch] = []
        self.coordinator_epoch = -1
        self.transaction_first_offset = -1


class CorruptState(ValueError):
    """A STATE block that does not parse."""


class ProducerState:
    """All producers of one log. `check` decides, `record` is the only mutation."""

    __slots__ = ("producers",)

    def __init__(self) -> None:
        self.producers: dict[int, Producer] = {}

    def check(self, header: BatchHeader) -> SentBatch | ErrorCode | None:
        """None = append it; a SentBatch = duplicate of that one; an ErrorCode = refuse."""
        producer = self.producers.get(header.producer_id)
        if producer is None:
            return None
        epoch, first = header.producer_epoch, header.base_sequence
        if epoch < producer.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if epoch > producer.epoch:
            return None if first == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        last = _advance(first, header.last_offset_delta)
        for sent in producer.batches:
            if sent.first_sequence == first and sent.last_sequence == last:
                return sent
        if producer.batches and first != _advance(producer.batches[-1].last_sequence, 1):
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        return None

    def record(self, header: BatchHeader, base_offset: int) -> None:
        """Take note of an appended batch. Does not validate: replay applies what was accepted once."""
        producer = self.producers.pop(header.producer_id, None)
        if producer is None or producer.epoch != header.producer_epoch:
            successor = Producer(header.producer_epoch)
            if producer is not None:
                successor.coordinator_epoch = producer.coordinator_epoch
            producer = successor
        self.producers[header.producer_id] = producer  # the latest to write stands last
        delta = header.last_offset_delta
        batches = producer.batches
        if len(batches) == KEPT_BATCHES:
            del batches[0]
        batches.append(
            SentBatch(
                header.base_sequence,
                _advance(header.base_sequence, delta),
                base_offset + delta,
                delta,
                header.max_timestamp,
            )
        )
        if len(self.producers) > _MAX_PRODUCERS:
            del self.producers[next(iter(self.producers))]

    def expire(self, now_ms: int, expiration_ms: int = DEFAULT_EXPIRATION_MS) -> None:
        """Forget producers whose last batch is older than `expiration_ms`, but never the latest thousand."""
        surplus = len(self.producers) - _ALWAYS_KEPT
        if surplus <= 0:
            return
        old = [
            producer_id
            for producer_id, producer in list(self.producers.items())[:surplus]
            if producer.batches[-1].timestamp < now_ms - expiration_ms
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
                    producer.batches.append(SentBatch(*_BATCH.unpack_from(data, position)))
                    position += _BATCH.size
                state.producers[producer_id] = producer
        except struct.error as error:
            raise CorruptState(f"STATE block of {len(data)} bytes ends too early: {error}") from error
        if position != len(data):
            raise CorruptState(f"STATE block of {len(data)} bytes: {len(data) - position} bytes left over")
        return state

    def replay(self, batches: Iterable[memoryview]) -> int:
        """Apply stored batches in order; the highest timestamp seen (-1: none from producers)."""
        newest = -1
        for batch in batches:
            header = parse_batch_header(batch)
            if header.producer_id >= 0 and not header.is_control:
                self.record(header, header.base_offset)
                newest = max(newest, header.max_timestamp)
        return newest


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
