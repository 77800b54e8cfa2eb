"""The four codecs of record batches, as Kafka frames them, with a bound on what comes out."""

from __future__ import annotations

import struct
from typing import Final

import cramjam

from protocol.errors import ErrorCode
from protocol.record_batch import CODEC_GZIP, CODEC_LZ4, CODEC_SNAPPY, CODEC_ZSTD, InvalidBatch

MAX_DECOMPRESSED_BYTES: Final = 128 * 1024 * 1024
_FIRST_GUESS_BYTES: Final = 64 * 1024

# snappy-java's stream: magic, version and compatible version, then blocks of i32 length and raw snappy.
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK_BYTES: Final = 32 * 1024
_BLOCK_LENGTH: Final = struct.Struct(">i")
# LZ4 frame: magic, flags (version 1, independent blocks, no checksums), blocks of up to 64 KiB, checksum of the two.
_LZ4_HEADER: Final = b"\x04\x22\x4d\x18\x60\x40\x82"
_LZ4_BLOCK_BYTES: Final = 64 * 1024
_LZ4_BLOCK_LENGTH: Final = struct.Struct("<I")
_LZ4_UNCOMPRESSED: Final = 1 << 31
_GZIP_DEFAULT_LEVEL: Final = -1
_STREAMS: Final = {CODEC_GZIP: cramjam.gzip, CODEC_LZ4: cramjam.lz4, CODEC_ZSTD: cramjam.zstd}


def compress(codec: int, data: bytes | bytearray, level: int | None = None) -> bytes:
    """`data` in the form of `codec` 1 to 4. `level` is Kafka's of gzip and zstd (None, -1 for gzip: the default);
    lz4 and snappy have one level here. Raises ValueError for another codec."""
    if codec == CODEC_SNAPPY:
        out = bytearray(_XERIAL_HEADER)
        for pos in range(0, len(data), _XERIAL_BLOCK_BYTES):
            block = bytes(cramjam.snappy.compress_raw(data[pos : pos + _XERIAL_BLOCK_BYTES]))
            out += _BLOCK_LENGTH.pack(len(block)) + block
        return bytes(out)
    if codec == CODEC_LZ4:
        return _compress_lz4(data)
    if codec == CODEC_GZIP:
        return bytes(cramjam.gzip.compress(data, level=None if level == _GZIP_DEFAULT_LEVEL else level))
    if codec == CODEC_ZSTD:
        return bytes(cramjam.zstd.compress(data, level=level))
    raise ValueError(f"codec 1 to 4 expected, got {codec}")


def _compress_lz4(data: bytes | bytearray) -> bytes:
    # The library's own frames link their blocks, which the Java client refuses to read.
    out = bytearray(_LZ4_HEADER)
    for pos in range(0, len(data), _LZ4_BLOCK_BYTES):
        raw = data[pos : pos + _LZ4_BLOCK_BYTES]
        block = bytes(cramjam.lz4.compress_block(raw, store_size=False))
        if len(block) < len(raw):
            out += _LZ4_BLOCK_LENGTH.pack(len(block)) + block
        else:
            out += _LZ4_BLOCK_LENGTH.pack(len(raw) | _LZ4_UNCOMPRESSED) + raw
    return bytes(out + _LZ4_BLOCK_LENGTH.pack(0))


def decompress(codec: int, data: memoryview, max_bytes: int = MAX_DECOMPRESSED_BYTES) -> memoryview:
    """What `compress` was given, or a client. Snappy may be raw (librdkafka) or in snappy-java's stream (Java).

    Raises InvalidBatch: CORRUPT_MESSAGE for damaged data, MESSAGE_TOO_LARGE beyond `max_bytes`.
    """
    if codec == CODEC_SNAPPY:
        if bytes(data[: len(_XERIAL_MAGIC)]) == _XERIAL_MAGIC:
            return _decompress_xerial(data, max_bytes)
        out = bytearray()
        _decompress_snappy_block(data, out, max_bytes)
        return memoryview(out)
    if codec not in _STREAMS:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"codec 1 to 4 expected, got {codec}")
    capacity = min(max_bytes, max(_FIRST_GUESS_BYTES, 4 * len(data)))
    while True:
        target = bytearray(capacity)
        try:
            size = _STREAMS[codec].decompress_into(data, target)
        except cramjam.DecompressionError as error:
            # The message is all that tells a target too small from damage; the tests would notice another wording.
            if "write whole buffer" not in str(error):
                raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"data of codec {codec} expected: {error}") from None
            if capacity == max_bytes:
                raise InvalidBatch(
                    ErrorCode.MESSAGE_TOO_LARGE, f"at most {max_bytes} bytes expected, got more"
                ) from None
            capacity = min(max_bytes, 8 * capacity)
            continue
        return memoryview(target)[:size]


def _decompress_xerial(data: memoryview, max_bytes: int) -> memoryview:
    out = bytearray()
    pos = len(_XERIAL_HEADER)
    while pos < len(data):
        if pos + 4 > len(data):
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, "snappy block length of 4 bytes expected, got less")
        (size,) = _BLOCK_LENGTH.unpack_from(data, pos)
        pos += 4
        if not 0 <= size <= len(data) - pos:
            raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"snappy block of {size} bytes expected, got less")
        _decompress_snappy_block(data[pos : pos + size], out, max_bytes)
        pos += size
    return memoryview(out)


def _decompress_snappy_block(block: memoryview, out: bytearray, max_bytes: int) -> None:
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if len(out) + size > max_bytes:
            raise InvalidBatch(ErrorCode.MESSAGE_TOO_LARGE, f"at most {max_bytes} bytes expected, got {size} more")
        out += memoryview(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise InvalidBatch(ErrorCode.CORRUPT_MESSAGE, f"snappy block expected: {error}") from None
