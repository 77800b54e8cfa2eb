"""Codec of the objects in the bucket: blocks, index, footer, STATE payload, keys. Pure; this docstring is the spec.

All integers are big-endian. An object is `block* index footer`; blocks are sorted by (stream_id, base_offset) and the
blocks of one stream stand together: each stream of an object is ONE run.

    block    = header payload
    header   = magic u32 | flags u16 | codec u8 | reserved u8 | stream_id u64 | base_offset u64 | batches u32
               | raw_length u32 | length u32 | crc32c u32                                                (40 bytes)
               crc32c is over the 36 header bytes before it and the payload. codec 0 (none) is the only one;
               raw_length = length. `length` counts the payload alone.
    payload  = RecordBatch v2 bytes verbatim, `batches` of them; or, with flag STATE, a STATE payload
    STATE    = version u8 (1) | has_state u8 | reserved u16 | state_length u32 | aborted_count u32
               | aborted[n] (producer_id i64, first_offset i64, last_offset i64, last_stable_offset i64) | state
               base_offset is the end offset of its run, for exactly which the state holds; it stands last in the run
    index    = n u32 | entry[n] | crc32c u32 (over everything before it)
    entry    = stream_id u64 | base_offset u64 | offset_delta u32 | records u32 | position u64 | size u32
               | max_timestamp_ms i64 | flags u16                                                        (46 bytes)
               base_offset + offset_delta = offset after the block's last batch; `size` includes the header
    footer   = index_position u64 | index_length u32 | object_id u64 | broker_id i32 | broker_epoch u64 | kind u16
               | version u16 | crc32c u32 (over the 36 bytes before it) | magic u32                      (44 bytes)
    key      = <hash4>/<cluster>/d/<object_id:016x>-<random 64 bits as 16 hex digits>
               hash4 = low 16 bits of the CRC-32C of "<cluster>/d/<object_id:016x>": it spreads the load over the
               store's prefixes, and does not depend on the random part, so an object whose commit never came is
               found by listing its prefix

Arbitrary bytes raise only `Corrupt`. Golden bytes: tests/unit/s3stream/object_format.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crc32c import crc32c
from typing_extensions import Buffer

from s3stream.errors import Corrupt, Invalid

VERSION = 1
KIND_STREAM_SET = 1
KIND_STREAM = 2
FLAG_STATE = 1
"""Block and index flag: the payload is a STATE payload, not batches."""
RANGE_HAS_STATE = 1
RANGE_HAS_ABORTED = 2
"""Flags of a finished run and of its range row: its STATE block holds a state; holds aborted transactions."""
MAX_PAYLOAD_SIZE_BYTES = 0xFFFFFFFF - 64

_BLOCK_MAGIC = 0x57424C4B  # "WBLK"
_FOOTER_MAGIC = 0x57454952  # "WEIR"
_CODEC_NONE = 0
_BLOCK = struct.Struct(">IHBBQQIII")
_BLOCK_WITH_CRC = struct.Struct(">IHBBQQIIII")
_U32 = struct.Struct(">I")
_ENTRY = struct.Struct(">QQIIQIqH")
_FOOTER = struct.Struct(">QIQiQHH")
_FOOTER_TAIL = struct.Struct(">II")
_STATE = struct.Struct(">BBHII")
_ABORTED = struct.Struct(">qqqq")
_STATE_VERSION = 1

BLOCK_HEADER_SIZE_BYTES = _BLOCK_WITH_CRC.size
INDEX_ENTRY_SIZE_BYTES = _ENTRY.size
FOOTER_SIZE_BYTES = _FOOTER.size + _FOOTER_TAIL.size

_KEY = re.compile(r"(?P<hash>[0-9a-f]{4})/(?P<cluster>[^/]+)/d/(?P<object>[0-9a-f]{16})-(?P<random>[0-9a-f]{16})")


class AbortedTxn(NamedTuple):
    """An aborted transaction whose marker lies in the run. Offsets are those of Kafka's aborted index entry."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class IndexEntry(NamedTuple):
    """One block as the index describes it; `[position, position + size)` is the block with its header."""

    stream_id: int
    base_offset: int
    offset_delta: int
    records: int
    position: int
    size: int
    max_timestamp_ms: int
    flags: int


class Footer(NamedTuple):
    index_position: int
    index_length: int
    object_id: int
    broker_id: int
    broker_epoch: int
    kind: int
    version: int


class Block(NamedTuple):
    """A verified block; `payload` is a view into the bytes that were read, nothing is copied."""

    flags: int
    stream_id: int
    base_offset: int
    batches: int
    payload: memoryview
    size: int


def encode_block_header(
    flags: int, stream_id: int, base_offset: int, batches: int, payloads: Sequence[Buffer]
) -> bytes:
    """The header of a block whose payload is the concatenation of `payloads`."""
    length = sum([memoryview(payload).nbytes for payload in payloads])
    header = _BLOCK.pack(_BLOCK_MAGIC, flags, _CODEC_NONE, 0, stream_id, base_offset, batches, length, length)
    crc = crc32c(header)
    for payload in payloads:
        crc = crc32c(payload, crc)
    return header + _U32.pack(crc)


def encode_index_and_footer(
    entries: Sequence[IndexEntry], index_position: int, object_id: int, broker_id: int, broker_epoch: int, kind: int
) -> bytes:
    """What follows the blocks, which end at `index_position`."""
    index = bytearray(_U32.pack(len(entries)))
    for entry in entries:
        index += _ENTRY.pack(*entry)
    index += _U32.pack(crc32c(index))
    footer = _FOOTER.pack(index_position, len(index), object_id, broker_id, broker_epoch, kind, VERSION)
    return bytes(index) + footer + _FOOTER_TAIL.pack(crc32c(footer), _FOOTER_MAGIC)


def encode_state(state: bytes | None, aborted: Sequence[AbortedTxn]) -> bytes:
    """The STATE payload. `state` None (no state) and b"" (an empty one) are told apart."""
    content = state if state is not None else b""
    head = _STATE.pack(_STATE_VERSION, 1 if state is not None else 0, 0, len(content), len(aborted))
    return b"".join((head, *(_ABORTED.pack(*entry) for entry in aborted), content))


def decode_state(payload: Buffer) -> tuple[bytes | None, list[AbortedTxn]]:
    """State and aborted transactions of a STATE payload. Corrupt if the lengths or the version do not fit."""
    view = memoryview(payload).cast("B")
    if len(view) < _STATE.size:
        raise Corrupt(f"STATE payload has {len(view)} bytes, expected at least {_STATE.size}")
    version, has_state, _, state_length, aborted_count = _STATE.unpack_from(view)
    if version != _STATE_VERSION:
        raise Corrupt(f"STATE payload has version {version}, this code reads {_STATE_VERSION}")
    expected = _STATE.size + aborted_count * _ABORTED.size + state_length
    if len(view) != expected or has_state > 1 or (not has_state and state_length):
        raise Corrupt(
            f"STATE payload has {len(view)} bytes, expected {expected} for {aborted_count} aborted transactions "
            f"and {state_length} bytes of state (has_state {has_state})"
        )
    end = _STATE.size + aborted_count * _ABORTED.size
    aborted = [AbortedTxn(*fields) for fields in _ABORTED.iter_unpack(view[_STATE.size : end])]
    return (bytes(view[end:]) if has_state else None), aborted


def parse_footer(tail: Buffer, object_size_bytes: int | None = None) -> Footer:
    """The footer from the last bytes of an object (at least FOOTER_SIZE_BYTES of them; more are ignored).

    With the object's size the position of the index is checked against it.
    """
    view = memoryview(tail).cast("B")
    if len(view) < FOOTER_SIZE_BYTES:
        raise Corrupt(f"object tail has {len(view)} bytes, a footer has {FOOTER_SIZE_BYTES}")
    view = view[-FOOTER_SIZE_BYTES:]
    crc, magic = _FOOTER_TAIL.unpack_from(view, _FOOTER.size)
    if magic != _FOOTER_MAGIC:
        raise Corrupt(f"footer magic is {magic:#010x}, expected {_FOOTER_MAGIC:#010x}")
    actual = crc32c(view[: _FOOTER.size])
    if actual != crc:
        raise Corrupt(f"footer CRC is {actual:#010x}, expected {crc:#010x}")
    footer = Footer(*_FOOTER.unpack_from(view))
    if footer.version != VERSION:
        raise Corrupt(f"object format version is {footer.version}, this code reads {VERSION}")
    if footer.kind not in (KIND_STREAM_SET, KIND_STREAM):
        raise Corrupt(f"object kind is {footer.kind}, expected {KIND_STREAM_SET} or {KIND_STREAM}")
    expected = footer.index_position + footer.index_length + FOOTER_SIZE_BYTES
    if object_size_bytes is not None and expected != object_size_bytes:
        raise Corrupt(f"object has {object_size_bytes} bytes, its footer says {expected}")
    return footer


def parse_index(index: Buffer, footer: Footer) -> list[IndexEntry]:
    """The entries from exactly the index's bytes. Order and positions are checked: blocks fill `[0, index_position)`
    without gaps, ascending by (stream_id, base_offset), a STATE block last in its run."""
    view = memoryview(index).cast("B")
    if len(view) != footer.index_length or len(view) < 2 * _U32.size:
        raise Corrupt(f"index has {len(view)} bytes, the footer says {footer.index_length}")
    (crc,) = _U32.unpack_from(view, len(view) - _U32.size)
    actual = crc32c(view[: -_U32.size])
    if actual != crc:
        raise Corrupt(f"index CRC is {actual:#010x}, expected {crc:#010x}")
    (count,) = _U32.unpack_from(view)
    if len(view) != 2 * _U32.size + count * _ENTRY.size:
        raise Corrupt(f"index has {len(view)} bytes, {count} entries need {2 * _U32.size + count * _ENTRY.size}")
    entries = [IndexEntry(*fields) for fields in _ENTRY.iter_unpack(view[_U32.size : -_U32.size])]
    _check_entries(entries, footer.index_position)
    return entries


def _check_entries(entries: Sequence[IndexEntry], index_position: int) -> None:
    position, stream_id, offset, sealed = 0, -1, 0, False
    for number, entry in enumerate(entries):
        if entry.stream_id != stream_id:
            ordered = entry.stream_id > stream_id
        else:
            ordered = entry.base_offset >= offset and not sealed
        if not ordered or entry.position != position or entry.size <= BLOCK_HEADER_SIZE_BYTES:
            raise Corrupt(f"index entry {number} {entry} does not follow stream {stream_id}, {offset=}, {position=}")
        position += entry.size
        stream_id, offset = entry.stream_id, entry.base_offset + entry.offset_delta
        sealed = bool(entry.flags & FLAG_STATE)
    if position != index_position:
        raise Corrupt(f"the blocks of the index end at {position}, the footer says {index_position}")


def read_block(data: Buffer, stream_id: int, base_offset: int | None = None) -> Block:
    """The block at the start of `data` (what follows it is ignored), which must be of `stream_id` and, if given, start
    at `base_offset`. The payload is verified by its CRC."""
    view = memoryview(data).cast("B")
    if len(view) < BLOCK_HEADER_SIZE_BYTES:
        raise Corrupt(f"block of stream {stream_id} has {len(view)} bytes, a header has {BLOCK_HEADER_SIZE_BYTES}")
    fields = _BLOCK_WITH_CRC.unpack_from(view)
    magic, flags, codec, _, found_stream_id, found_base_offset, batches, raw_length, length, crc = fields
    if magic != _BLOCK_MAGIC:
        raise Corrupt(f"block magic of stream {stream_id} is {magic:#010x}, expected {_BLOCK_MAGIC:#010x}")
    size = BLOCK_HEADER_SIZE_BYTES + length
    if len(view) < size:
        raise Corrupt(f"block of stream {found_stream_id} at {found_base_offset}: {len(view)} bytes of {size} came")
    payload = view[BLOCK_HEADER_SIZE_BYTES:size]
    actual = crc32c(payload, crc32c(view[: _BLOCK.size]))
    if actual != crc:
        raise Corrupt(
            f"block of stream {found_stream_id} at {found_base_offset}: CRC is {actual:#010x}, expected {crc:#010x}"
        )
    if codec != _CODEC_NONE or raw_length != length:
        raise Corrupt(f"block of stream {found_stream_id} at {found_base_offset}: unknown {codec=}, {raw_length=}")
    if found_stream_id != stream_id or (base_offset is not None and found_base_offset != base_offset):
        wanted = "" if base_offset is None else f" at {base_offset}"
        raise Corrupt(f"expected a block of stream {stream_id}{wanted}, found {found_stream_id} at {found_base_offset}")
    return Block(flags, found_stream_id, found_base_offset, batches, payload, size)


def read_blocks(data: Buffer, stream_id: int) -> Iterator[Block]:
    """The blocks that fill `data` exactly, all of `stream_id`, in offset order: a run or a part of it."""
    view = memoryview(data).cast("B")
    last = -1
    while len(view):
        block = read_block(view, stream_id)
        if block.base_offset <= last:
            raise Corrupt(f"block of stream {stream_id} at {block.base_offset} after the one at {last}")
        last = block.base_offset
        yield block
        view = view[block.size :]


def object_prefix(cluster_id: str, object_id: int) -> str:
    """What every key of this object id starts with (the random part follows)."""
    name = f"{cluster_id}/d/{object_id:016x}"
    return f"{crc32c(name.encode()) & 0xFFFF:04x}/{name}-"


def object_key(cluster_id: str, object_id: int, random64: int) -> str:
    """The key of an object; uniqueness comes from `random64` (0 <= random64 < 2**64)."""
    if not 0 <= random64 < 1 << 64:
        raise Invalid(f"the random part of a key is 64 bits, got {random64}")
    return f"{object_prefix(cluster_id, object_id)}{random64:016x}"


def parse_key(key: str) -> tuple[str, int] | None:
    """(cluster id, object id) of a data object's key; None for any other key (WAL slots, probes, foreign files)."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    cluster_id, object_id = match["cluster"], int(match["object"], 16)
    return (cluster_id, object_id) if key.startswith(object_prefix(cluster_id, object_id)) else None
