"""A model broker: the least that keeps what the checkers judge, to prove clients, scenarios and checkers themselves.

Everything stays in the WAL device for ever: no object, no metadata, no cache limits. What fails here is a fault of the
simulated world; what fails with the real broker only is a fault of the broker.
"""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from protocol.headers import parse_request_header
from protocol.messages import decode_request, encode_response
from s3stream.errors import Retry
from tests.simulation.nodes import Node
from tests.simulation.requests import CREATE_TOPICS, EARLIEST, FETCH, INIT_PRODUCER_ID, LIST_OFFSETS, PRODUCE
from tests.simulation.wal_device import SimulatedWalDevice
from tests.simulation.world import PORT, World

_FRAME = struct.Struct(">III")  # length of the body, CRC-32 of the body, length of the JSON head in it
_SEAL = _FRAME.pack(0xFFFF_FFFF, 0xFFFF_FFFF, 0)
_REMEMBERED_BATCHES = 5


class _Log:
    """One partition: batches in memory, what of them is durable, and the last batches of each producer."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, bytes]] = []  # (base, end, bytes)
        self.end = 0
        self.durable_end = 0
        self.producers: dict[int, deque[tuple[int, int, int]]] = defaultdict(lambda: deque(maxlen=_REMEMBERED_BATCHES))

    def add(self, batch: bytes) -> int:
        (count,) = struct.unpack_from(">i", batch, 57)
        producer_id, _, sequence = struct.unpack_from(">qhi", batch, 43)
        base = self.end
        self.batches.append((base, base + count, struct.pack(">q", base) + batch[8:]))
        self.end = base + count
        if producer_id >= 0:
            self.producers[producer_id].append((sequence, count, base))
        return base


class ModelBroker:
    """One incarnation on a WAL device. `on_failure` is called when a sync failed: the process must end."""

    def __init__(self, device: SimulatedWalDevice, on_failure: Callable[[], None]) -> None:
        self._device = device
        self._on_failure = on_failure
        self._logs: dict[tuple[str, int], _Log] = defaultdict(_Log)
        self._next_producer_id = 1
        self._segment = 0
        self._position = 0
        self._queue: list[tuple[bytes, Callable[[], None]]] = []
        self._writing = False
        self._waiting: list[tuple[_Log, int, Callable[[], None]]] = []

    # -- the WAL

    async def recover(self) -> None:
        """Read every segment up to its first bad frame, make what was read durable, and begin a fresh segment."""
        numbers = list(await self._device.list_segments())
        for number in numbers:
            content = bytes(await self._device.read_segment(number))
            position = self._replay(content)
            if number == numbers[-1]:
                # Written again, not only synced again: after a failed sync the page cache holds what no later sync
                # will ever write. The seal stops a later recovery before anything stale behind it.
                await self._write(number, 0, [content[:position], _SEAL])
        for log in self._logs.values():
            log.durable_end = log.end
        self._segment = max(numbers, default=-1) + 1
        await self._create_segment()

    async def _create_segment(self) -> None:
        """As soon as the disk has room for it."""
        while True:
            try:
                return await self._device.create_segment(self._segment)
            except Retry:
                await asyncio.sleep(0.1)

    def _replay(self, content: bytes) -> int:
        position = 0
        while position + _FRAME.size <= len(content):
            size, checksum, head_size = _FRAME.unpack_from(content, position)
            body = content[position + _FRAME.size : position + _FRAME.size + size]
            if size == 0 or len(body) < size or zlib.crc32(body) != checksum:
                break
            head = json.loads(body[:head_size])
            if "producer_id" in head:
                self._next_producer_id = max(self._next_producer_id, head["producer_id"] + 1)
            else:
                self._logs[head["topic"], head["partition"]].add(body[head_size:])
            position += _FRAME.size + size
        return position

    async def _write(self, number: int, position: int, buffers: list[bytes]) -> None:
        done: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._device.write(number, position, buffers, done.set_result)
        if await done is not None:
            self._on_failure()
            await asyncio.get_running_loop().create_future()  # never again

    def append(self, head: dict[str, Any], payload: bytes, durable: Callable[[], None]) -> None:
        text = json.dumps(head).encode()
        body = text + payload
        self._queue.append((_FRAME.pack(len(body), zlib.crc32(body), len(text)) + body, durable))
        if not self._writing:
            self._writing = True
            asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        while self._queue:
            group, self._queue = self._queue[:50], self._queue[50:]
            for frame, durable in group:
                if self._position + len(frame) + len(_SEAL) > self._device.segment_size_bytes:
                    self._segment, self._position = self._segment + 1, 0
                    await self._create_segment()
                await self._write(self._segment, self._position, [frame])
                self._position += len(frame)
                durable()
        self._writing = False

    # -- requests

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers: deque[asyncio.Future[bytes]] = deque()
        try:
            while True:
                size = struct.unpack(">i", await reader.readexactly(4))[0]
                frame = await reader.readexactly(size)
                answer = self._handle(frame)
                answers.append(answer)
                answer.add_done_callback(lambda _: self._flush(answers, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @staticmethod
    def _flush(answers: deque[asyncio.Future[bytes]], writer: asyncio.StreamWriter) -> None:
        while answers and answers[0].done():
            writer.write(answers.popleft().result())

    def _handle(self, frame: bytes) -> asyncio.Future[bytes]:
        header = parse_request_header(memoryview(frame))
        body = decode_request(header.api_key, header.api_version, memoryview(frame), header.body_offset)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def reply(response: dict[str, Any]) -> None:
            answer.set_result(encode_response(header.api_key, header.api_version, header.correlation_id, response))

        handlers = {
            PRODUCE: self._produce,
            FETCH: self._fetch,
            LIST_OFFSETS: self._list_offsets,
            CREATE_TOPICS: self._create_topics,
            INIT_PRODUCER_ID: self._init_producer_id,
        }
        handlers[header.api_key](body, reply)
        return answer

    def _create_topics(self, body: Any, reply: Callable[[dict[str, Any]], None]) -> None:
        reply({"throttle_time": 0, "topics": [_created(topic) for topic in body.topics]})

    def _init_producer_id(self, body: Any, reply: Callable[[dict[str, Any]], None]) -> None:
        number = self._next_producer_id
        self._next_producer_id += 1
        self.append(
            {"producer_id": number},
            b"",
            lambda: reply({"throttle_time": 0, "error_code": 0, "producer_id": number, "producer_epoch": 0}),
        )

    def _produce(self, body: Any, reply: Callable[[dict[str, Any]], None]) -> None:
        topic, data = body.topic_data[0].name, body.topic_data[0].partition_data[0]
        batch = bytes(data.records)
        log = self._logs[topic, data.index]
        (count,) = struct.unpack_from(">i", batch, 57)
        producer_id, _, sequence = struct.unpack_from(">qhi", batch, 43)

        def answer(code: int, base: int) -> None:
            part = {"index": data.index, "error_code": code, "base_offset": base, "record_errors": []}
            reply({"throttle_time": 0, "responses": [{"name": topic, "partition_responses": [part]}]})

        if producer_id >= 0:
            known = log.producers[producer_id]
            for each in known:
                if each[:2] == (sequence, count):
                    self._when_durable(log, each[2] + count, lambda base=each[2]: answer(0, base))  # type: ignore[misc]
                    return
            if sequence != (known[-1][0] + known[-1][1] if known else 0):
                answer(45, -1)
                return
        base = log.add(batch)

        def durable() -> None:
            log.durable_end = base + count
            answer(0, base)
            ready = [each for each in self._waiting if each[1] <= each[0].durable_end]
            self._waiting = [each for each in self._waiting if each[1] > each[0].durable_end]
            for _, _, call in ready:
                call()

        self.append({"topic": topic, "partition": data.index}, batch, durable)

    def _when_durable(self, log: _Log, end: int, call: Callable[[], None]) -> None:
        if log.durable_end >= end:
            call()
        else:
            self._waiting.append((log, end, call))

    def _fetch(self, body: Any, reply: Callable[[dict[str, Any]], None]) -> None:
        parts = []
        topic = body.topics[0]
        for wanted in topic.partitions:
            log = self._logs[topic.topic, wanted.partition]
            records, code = b"", 0 if wanted.fetch_offset <= log.durable_end else 1
            for _, end, batch in log.batches:
                if wanted.fetch_offset < end <= log.durable_end and (not records or len(records) < body.max_bytes):
                    records += batch
            parts.append(
                {
                    "partition_index": wanted.partition,
                    "error_code": code,
                    "high_watermark": log.durable_end,
                    "log_start_offset": 0,
                    "aborted_transactions": None,
                    "records": records,
                }
            )
        reply({"throttle_time": 0, "error_code": 0, "responses": [{"topic": topic.topic, "partitions": parts}]})

    def _list_offsets(self, body: Any, reply: Callable[[dict[str, Any]], None]) -> None:
        topic = body.topics[0]
        wanted = topic.partitions[0]
        log = self._logs[topic.name, wanted.partition_index]
        offset = 0 if wanted.timestamp == EARLIEST else log.durable_end
        part = {"partition_index": wanted.partition_index, "error_code": 0, "timestamp": -1, "offset": offset}
        reply({"throttle_time": 0, "topics": [{"name": topic.name, "partitions": [part]}]})


def _created(topic: Any) -> dict[str, Any]:
    return {"name": topic.name, "topic_id": None, "error_code": 0, "error_message": None, "configs": None}


async def model_process(world: World, node: Node) -> None:
    """The main coroutine of a model broker's process; ends when a sync failed."""
    failed = asyncio.Event()
    broker = ModelBroker(world.disk.open(), failed.set)
    recovering = asyncio.get_running_loop().create_task(broker.recover())
    ended = asyncio.get_running_loop().create_task(failed.wait())
    await asyncio.wait([recovering, ended], return_when=asyncio.FIRST_COMPLETED)
    if not failed.is_set():
        await recovering
        await asyncio.start_server(broker.serve, "0.0.0.0", PORT)
        await ended
