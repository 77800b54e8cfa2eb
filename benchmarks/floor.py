"""`python -m benchmarks.floor PORT`: about the least that a Python server can do for a Produce request.

What our hot path is measured against: a throw-away server by the same rules. It receives into recycled memory, lets kio
parse, unpacks each batch header once, checks its CRC, writes the base offset in place, frames the batch for a log with
checksums of its own, copies the group into a buffer and answers by hand. It has no errors, producers, uploads, reads or
disk, and ends at the first thing it does not expect. Serves Produce 9, and what `benchmarks.hot_path` needs beside it.
"""

from __future__ import annotations

import asyncio
import gc
import io
import mmap
import struct
import sys
from collections import deque
from datetime import timedelta
from typing import Any

import crc32c
import uvloop
from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

_HEADER = struct.Struct(">qiibIhiqqqhii")
_BEGINNING = struct.Struct(">qii")
_FRAME = struct.Struct(">IQQQQqIII")
_CRC = struct.Struct(">I")
_FIXED = struct.Struct(">hhi")
_ROW = struct.Struct(">ihqqqBBB")
_SIZE = struct.Struct(">ii")
_GROUP_PART = bytes(28)
_GROUP_CRC = crc32c.crc32c(_GROUP_PART)
_PRODUCE, _CREATE_TOPICS, _INIT_PRODUCER_ID = 0, 19, 22
_CHUNK = 16 << 20
_RECEIVE = 64 << 10
_LARGE = 8 << 10
_read_header = entity_reader(load_request_schema(_PRODUCE, 9).__header_schema__)
_read_produce = entity_reader(load_request_schema(_PRODUCE, 9))


class Memory:
    """Chunks of 16 MiB in turn, eight of them: as much as Weir's tail cache."""

    def __init__(self) -> None:
        self._chunks = deque(memoryview(mmap.mmap(-1, _CHUNK)) for _ in range(8))
        self.position = 0

    def rest(self, size: int) -> memoryview:
        """`size` bytes or more."""
        if self.position + size > _CHUNK:
            self._chunks.rotate(-1)
            self.position = 0
        return self._chunks[0][self.position :]


class Log:
    """A partition."""

    __slots__ = ("durable_end", "next_offset", "tail")

    def __init__(self) -> None:
        self.next_offset = self.durable_end = 0
        self.tail: deque[tuple[int, int, memoryview]] = deque(maxlen=1024)


class Server:
    """What all connections share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.memory = Memory()
        self.logs: dict[tuple[str, int], Log] = {}
        self.lsn = 1
        self.frames: list[bytes | memoryview] = []
        self.entries: list[tuple[Log, int]] = []
        self.waiting: list[Pending] = []
        self._segment = memoryview(bytearray(64 << 20))
        self._position = 0
        self._scheduled = False

    def append(self, log: Log, index: int, batch: memoryview) -> int:
        """Check a batch, give it its offset and queue it; the offset."""
        _, length, _, _, crc, _, _, _, timestamp, _, _, _, count = _HEADER.unpack_from(batch)
        if crc32c.crc32c(batch[21:]) != crc:
            raise ValueError("a batch with a wrong checksum")
        base = log.next_offset
        log.next_offset = base + count
        _BEGINNING.pack_into(batch, 0, base, length, 0)
        lsn = self.lsn
        self.lsn = lsn + 1
        part = _FRAME.pack(length + 12, lsn, lsn - 1, index, base, timestamp, 0, count, crc32c.crc32c(batch))
        self.frames.append(_GROUP_PART + part + _CRC.pack(crc32c.crc32c(part, _GROUP_CRC)))
        self.frames.append(batch)
        self.entries.append((log, base + count))
        log.tail.append((base, lsn, batch))
        return base

    def answer_later(self, pending: Pending) -> None:
        """Once the group is written."""
        self.waiting.append(pending)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._write)

    def _write(self) -> None:
        entries, waiting, frames = self.entries, self.waiting, self.frames
        self.entries, self.waiting, self.frames, self._scheduled = [], [], [], False
        size = sum(map(len, frames))
        if self._position + size > len(self._segment):
            self._position = 0
        for part in (b"".join(frames),) if size < _LARGE * len(frames) else frames:
            self._segment[self._position : self._position + len(part)] = part
            self._position += len(part)
        self.loop.call_soon(self._written, entries, waiting)

    def _written(self, entries: list[tuple[Log, int]], waiting: list[Pending]) -> None:
        for log, end in entries:
            log.durable_end = end
        for pending in waiting:
            pending.answer()


class Pending:
    """A request that waits for its group."""

    __slots__ = ("connection", "correlation_id", "rows", "topic")

    def __init__(self, connection: Connection, correlation_id: int, topic: bytes) -> None:
        self.connection, self.correlation_id, self.topic = connection, correlation_id, topic
        self.rows: list[tuple[int, int]] = []

    def answer(self) -> None:
        out = bytearray((0, 2, len(self.topic) + 1))
        out += self.topic
        out.append(len(self.rows) + 1)
        for index, base in self.rows:
            out += _ROW.pack(index, 0, base, -1, 0, 1, 0, 0)
        out += bytes(6)
        self.connection.send(_SIZE.pack(4 + len(out), self.correlation_id) + out)


class Connection(asyncio.BufferedProtocol):
    """Frames in, answers out."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._rest = b""
        self._buffer = memoryview(b"")
        self._frame: memoryview | None = None
        self._filled = 0
        self._out: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._frame is not None:
            return self._frame[self._filled :]
        self._buffer = self.server.memory.rest(_RECEIVE)
        self._buffer[: len(self._rest)] = self._rest
        return self._buffer[len(self._rest) :]

    def buffer_updated(self, nbytes: int) -> None:
        memory, frame = self.server.memory, self._frame
        if frame is not None:
            self._filled += nbytes
            if self._filled == len(frame):
                self._frame = None
                self._take(frame[4:])
            return
        buffer, have, position = self._buffer, len(self._rest) + nbytes, 0
        self._rest = b""
        while have - position >= 4:
            size = 4 + int.from_bytes(buffer[position : position + 4], "big")
            if position + size > have:
                self._filled = have - position
                begun = bytes(buffer[position:have])
                memory.position += position
                self._frame = memory.rest(size)[:size]
                self._frame[: len(begun)] = begun
                memory.position += size
                return
            self._take(buffer[position + 4 : position + size])
            position += size
        memory.position += position
        self._rest = bytes(buffer[position:have])

    def send(self, answer: bytes) -> None:
        self._out.append(answer)
        if len(self._out) == 1:
            self.server.loop.call_soon(self._flush)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._transport.writelines(out)

    def _take(self, frame: memoryview) -> None:
        key, version, correlation_id = _FIXED.unpack_from(frame)
        if key != _PRODUCE:
            self.send(_other(self.server, key, version, correlation_id, bytes(frame)))
            return
        readable = frame.toreadonly()
        _, position = _read_header(readable, 0)
        request: Any = _read_produce(readable, position)[0]
        (topic,) = request.topic_data
        name = topic.name.encode()
        pending = Pending(self, correlation_id, name)
        # No transactional id, acks, time-out, one topic, its name, the number of partitions; then each one's index and
        # the length of its records as a varint.
        position += 1 + 2 + 4 + 1 + 1 + len(name) + 1
        for partition in topic.partition_data:
            size = len(partition.records)
            position += 4 + ((size + 1).bit_length() + 6) // 7
            index = partition.index
            log = self.server.logs[topic.name, index]
            pending.rows.append((index, self.server.append(log, index, frame[position : position + size])))
            position += size + 1
        self.server.answer_later(pending)


def _other(server: Server, key: int, version: int, correlation_id: int, frame: bytes) -> bytes:
    request_schema, response_schema = load_request_schema(key, version), load_response_schema(key, version)
    module: Any = sys.modules[response_schema.__module__]
    _, position = entity_reader(request_schema.__header_schema__)(frame, 0)
    request: Any = entity_reader(request_schema)(frame, position)[0]
    fields: dict[str, Any] = {"throttle_time": timedelta(0)}
    if key == _CREATE_TOPICS:
        (topic,) = request.topics
        server.logs |= {(topic.name, index): Log() for index in range(topic.num_partitions)}
        result = {"error_code": ErrorCode.none, "error_message": None, "topic_config_error_code": ErrorCode.none}
        count = {"num_partitions": topic.num_partitions, "replication_factor": 1, "configs": ()}
        fields["topics"] = (module.CreatableTopicResult(name=topic.name, **result, **count),)
    elif key == _INIT_PRODUCER_ID:
        fields |= {"error_code": ErrorCode.none, "producer_id": 1, "producer_epoch": 0}
    else:
        fields["responses"] = ()
    out = io.BytesIO()
    entity_writer(response_schema)(out, response_schema(**fields))
    head = b"\0" if response_schema.__flexible__ else b""
    return _SIZE.pack(4 + len(head) + len(out.getvalue()), correlation_id) + head + out.getvalue()


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = Server(loop)
    await loop.create_server(lambda: Connection(server), "127.0.0.1", port)
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
