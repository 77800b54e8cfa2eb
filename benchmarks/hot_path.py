"""`python -m benchmarks.hot_path --bootstrap HOST:PORT --pid PID`: what one Produce request costs the server's CPU.

Sends Produce requests of an idempotent producer over one connection, a fixed number in flight, and reads the server's
CPU time from /proc before and after: microseconds per request, MB/s, and the latency of acknowledgements. From its
cases it tells what a request costs, each further partition in it, and each KB. Works on any broker that serves Produce
9. Starts nothing. For figures that can be compared, pin the server to one core (`taskset -c 0`) and this program to
another (`--core 1`).

The topic is created for the run and deleted at its end. Batches are not compressed and hold records of 1 KiB or less.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import crc32c
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

_PRODUCE, _CREATE_TOPICS, _DELETE_TOPICS, _INIT_PRODUCER_ID = 0, 19, 20, 22
_VERSIONS = {_PRODUCE: 9, _CREATE_TOPICS: 5, _DELETE_TOPICS: 4, _INIT_PRODUCER_ID: 4}
_RECORD_BYTES = 1024
_CRC_AT, _ATTRIBUTES_AT, _SEQUENCE_AT = 17, 21, 53
_PARTITIONS = 50
"""Of the case that shows what a further partition costs."""
_ASLEEP_S = 0.005
"""After the last answer: then the server waits for more, and only then Linux knows its CPU time to the nanosecond."""


class BrokerError(Exception):
    """The broker answered with an error, or not at all."""


def _varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value & ~0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_batch(size_bytes: int, producer_id: int = -1) -> bytes:
    """One RecordBatch v2 of about this size, of 1 KiB records without keys; of an idempotent producer its first."""
    count = max(1, size_bytes // _RECORD_BYTES)
    value = os.urandom(max(1, min(size_bytes, _RECORD_BYTES) - 12))
    records = bytearray()
    for i in range(count):
        body = b"\0" + _varint(0) + _varint(i) + _varint(-1) + _varint(len(value)) + value + _varint(0)
        records += _varint(len(body)) + body
    now = int(time.time() * 1000)
    producer = (producer_id, 0, 0) if producer_id >= 0 else (-1, -1, -1)
    tail = struct.pack(">hiqqqhii", 0, count - 1, now, now, *producer, count) + records
    rest = struct.pack(">ibI", -1, 2, crc32c.crc32c(tail)) + tail
    return struct.pack(">qi", 0, len(rest)) + rest


class Client:
    """One blocking connection with requests in flight."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = self.socket.makefile("rb", buffering=1 << 16)

    def frame(self, api_key: int, request: Any) -> bytearray:
        """A whole frame; its correlation id (bytes 8 to 12) is 0."""
        version = _VERSIONS[api_key]
        out = io.BytesIO()
        entity_writer(type(request))(out, request)
        head = struct.pack(">hhih", api_key, version, 0, 5) + b"bench"
        if type(request).__flexible__:
            head += b"\0"
        return bytearray(struct.pack(">i", len(head) + len(out.getvalue())) + head + out.getvalue())

    def receive(self) -> bytes:
        """The next frame's bytes, correlation id included."""
        head = self.buffer.read(4)
        if len(head) < 4:
            raise BrokerError("the broker closed the connection")
        body: bytes = self.buffer.read(int.from_bytes(head, "big"))
        return body

    def call(self, api_key: int, request: Any) -> Any:
        """Send one request and decode its answer."""
        self.socket.sendall(self.frame(api_key, request))
        return decode(api_key, self.receive())


def schema(api_key: int) -> Any:
    """The module that holds the request's classes."""
    return sys.modules[load_request_schema(api_key, _VERSIONS[api_key]).__module__]


def decode(api_key: int, frame: bytes) -> Any:
    """The answer in a frame."""
    response = load_response_schema(api_key, _VERSIONS[api_key])
    _, position = entity_reader(response.__header_schema__)(frame, 0)
    return entity_reader(response)(frame, position)[0]


def create_topic(client: Client, name: str, partitions: int) -> None:
    """With room for the largest batch; returns when all of it can be written."""
    m = schema(_CREATE_TOPICS)
    config = m.CreatableTopicConfig(name="max.message.bytes", value=str(16 << 20))
    topic = m.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=1, assignments=(), configs=(config,)
    )
    answer = client.call(_CREATE_TOPICS, m.CreateTopicsRequest(topics=(topic,), timeout=timedelta(seconds=30)))
    if answer.topics[0].error_code.value:
        raise BrokerError(f"the topic was not created: {answer.topics[0].error_code.name}")
    for _ in range(200):
        client.socket.sendall(client.frame(_PRODUCE, produce_request(name, [encode_batch(100)] * partitions)))
        if not error_of(client.receive()):
            return
        time.sleep(0.05)
    raise BrokerError("the topic got no leader")


def delete_topic(client: Client, name: str) -> None:
    """Delete the topic of the run."""
    m = schema(_DELETE_TOPICS)
    client.call(_DELETE_TOPICS, m.DeleteTopicsRequest(topic_names=(name,), timeout=timedelta(seconds=30)))


def produce_request(topic: str, batches: Sequence[bytes]) -> Any:
    """Produce of a batch to each of the first partitions, with acks=all."""
    m = schema(_PRODUCE)
    partitions = tuple(m.PartitionProduceData(index=index, records=batch) for index, batch in enumerate(batches))
    data = m.TopicProduceData(name=topic, partition_data=partitions)
    return m.ProduceRequest(transactional_id=None, acks=-1, timeout=timedelta(seconds=30), topic_data=(data,))


def error_of(frame: bytes) -> int:
    """The first error code in the answer to a Produce, 0 without one."""
    answers = decode(_PRODUCE, frame).responses[0].partition_responses
    return next((int(answer.error_code.value) for answer in answers if answer.error_code.value), 0)


class Producer:
    """An idempotent producer: its id, and per partition the sequence number that comes next."""

    def __init__(self, client: Client, topic: str, partitions: int) -> None:
        m = schema(_INIT_PRODUCER_ID)
        request = m.InitProducerIdRequest(transactional_id=None, transaction_timeout=timedelta(seconds=60))
        answer = client.call(_INIT_PRODUCER_ID, request)
        if answer.error_code.value:
            raise BrokerError(f"no producer id: {answer.error_code.name}")
        self.client, self.topic, self.producer_id = client, topic, int(answer.producer_id)
        self.sequences = [0] * partitions


class Request:
    """One Produce frame that is sent again and again, with a batch of `size_bytes` for each of `partitions`."""

    def __init__(self, producer: Producer, size_bytes: int, partitions: int) -> None:
        self.producer = producer
        batches = [encode_batch(size_bytes, producer.producer_id) for _ in range(partitions)]
        self.frame = producer.client.frame(_PRODUCE, produce_request(producer.topic, batches))
        self._count = max(1, size_bytes // _RECORD_BYTES)
        view, end, self._batches = memoryview(self.frame), 0, []
        for batch in batches:
            start = self.frame.index(batch, end)
            end = start + len(batch)
            self._batches.append((start, view[start + _ATTRIBUTES_AT : end]))

    def renew(self, correlation_id: int) -> None:
        """The next request of its producer: other sequence numbers, other checksums."""
        frame, sequences = self.frame, self.producer.sequences
        struct.pack_into(">i", frame, 8, correlation_id & 0x7FFFFFFF)
        for index, (start, body) in enumerate(self._batches):
            struct.pack_into(">i", frame, start + _SEQUENCE_AT, sequences[index])
            struct.pack_into(">I", frame, start + _CRC_AT, crc32c.crc32c(body))
            sequences[index] = (sequences[index] + self._count) & 0x7FFFFFFF


def cpu_seconds(pid: int) -> float:
    """User and system time of the process so far, threads that ended included. On Linux to the nanosecond while it
    sleeps; while it runs what it used since the last tick of the clock is missing (up to 10 ms)."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock of clock_getcpuclockid(3)


@dataclass(frozen=True)
class Figures:
    """One case: sizes in bytes, times in seconds."""

    batch_bytes: int
    partitions: int
    requests: int
    elapsed_s: float
    cpu_s: float
    latencies_s: list[float]

    @property
    def cpu_us(self) -> float:
        """Of the server, per request."""
        return self.cpu_s / self.requests * 1e6

    @property
    def kib(self) -> float:
        """Size of a request."""
        return self.batch_bytes * self.partitions / 1024

    def line(self) -> str:
        """One line of the report."""
        rank = sorted(self.latencies_s)
        p50, p99 = (rank[min(len(rank) - 1, int(len(rank) * q))] * 1000 for q in (0.5, 0.99))
        return (
            f"{self.partitions:>3} x {self.batch_bytes:>7} B  {self.requests / self.elapsed_s:>7.0f} requests/s "
            f"{self.requests * self.kib * 1024 / self.elapsed_s / 1e6:>7.1f} MB/s  "
            f"server CPU {self.cpu_us:>7.1f} us/request "
            f"({self.cpu_s / self.elapsed_s * 100:>3.0f} % of a core)  ack p50 {p50:.2f} ms p99 {p99:.2f} ms"
        )


def run(producer: Producer, size_bytes: int, partitions: int, in_flight: int, seconds: float, pid: int) -> Figures:
    """Keep `in_flight` requests of this kind under way for this long."""
    client, request = producer.client, Request(producer, size_bytes, partitions)
    sent: deque[float] = deque()
    latencies: list[float] = []
    started, cpu = time.perf_counter(), cpu_seconds(pid)
    end = started + seconds
    number = 0
    while True:
        now = time.perf_counter()
        while len(sent) < in_flight and now < end:
            request.renew(number)
            number += 1
            sent.append(time.perf_counter())
            client.socket.sendall(request.frame)
        if not sent:
            break
        answer = client.receive()
        latencies.append(time.perf_counter() - sent.popleft())
        # Every answer is checked without decoding it all: one like the first but for correlation id and offset.
        if len(latencies) % 256 == 1 and (code := error_of(answer)):
            raise BrokerError(f"Produce answered error {code}")
    elapsed = time.perf_counter() - started
    time.sleep(_ASLEEP_S)
    return Figures(size_bytes, partitions, len(latencies), elapsed, cpu_seconds(pid) - cpu, latencies)


def costs(small: Figures, many: Figures, large: Figures) -> str:
    """What a request costs, a further partition in it, a KiB: from one small batch, many small ones, one large one."""
    kib_us = (large.cpu_us - small.cpu_us) / (large.kib - small.kib)
    partition_us = (many.cpu_us - small.cpu_us - (many.kib - small.kib) * kib_us) / (many.partitions - 1)
    request_us = small.cpu_us - small.kib * kib_us
    return f"{request_us:.1f} us a request + {partition_us:.1f} us a further partition + {kib_us:.2f} us a KiB"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--pid", required=True, type=int, help="process id of the server")
    parser.add_argument("--core", type=int, help="pin this client to one core")
    parser.add_argument("--seconds", type=float, default=10, help="length of one case")
    parser.add_argument("--warm-up", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=16, help="small requests under way; of large ones a fourth")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    client = Client(arguments.bootstrap)
    topic = f"hot-path-{os.getpid()}"
    create_topic(client, topic, _PARTITIONS)
    figures = []
    try:
        producer = Producer(client, topic, _PARTITIONS)
        for size, partitions, depth in (
            (1 << 10, 1, arguments.in_flight),
            (1 << 10, _PARTITIONS, max(1, arguments.in_flight // 4)),
            (16 << 10, 1, arguments.in_flight),
            (1 << 20, 1, max(1, arguments.in_flight // 4)),
        ):
            run(producer, size, partitions, depth, arguments.warm_up, arguments.pid)
            figures.append(run(producer, size, partitions, depth, arguments.seconds, arguments.pid))
            print(figures[-1].line(), flush=True)
        print(costs(figures[0], figures[1], figures[3]))
    finally:
        delete_topic(client, topic)
    return 0


if __name__ == "__main__":
    sys.exit(main())
