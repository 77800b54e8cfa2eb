"""`python -m benchmarks.hot_path --bootstrap HOST:PORT --pid PID`: what one Produce request costs the server's CPU.

Sends Produce requests that were encoded once over one connection, a fixed number in flight, and reads the server's
CPU time from /proc before and after: microseconds per request, MB/s, and the latency of acknowledgements. Works on
any broker that serves Produce 9. Starts nothing. For figures that can be compared, pin the server to one core
(`taskset -c 0`) and this program to another (`--core 1`).

The topic is created with one partition and deleted at the end. Batches are not compressed and hold records of 1 KiB.
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
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import crc32c
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

_PRODUCE, _METADATA, _CREATE_TOPICS, _DELETE_TOPICS = 0, 3, 19, 20
_VERSIONS = {_PRODUCE: 9, _METADATA: 9, _CREATE_TOPICS: 5, _DELETE_TOPICS: 4}
_RECORD_BYTES = 1024


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


def encode_batch(size_bytes: int) -> bytes:
    """One RecordBatch v2 of about this size, of 1 KiB records without keys."""
    count = max(1, size_bytes // _RECORD_BYTES)
    value = os.urandom(max(1, min(size_bytes, _RECORD_BYTES) - 12))
    records = bytearray()
    for i in range(count):
        body = b"\0" + _varint(0) + _varint(i) + _varint(-1) + _varint(len(value)) + value + _varint(0)
        records += _varint(len(body)) + body
    now = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", 0, count - 1, now, now, -1, -1, -1, count) + records
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


def create_topic(client: Client, name: str) -> None:
    """One partition, room for the largest batch; returns when it can be written."""
    m = schema(_CREATE_TOPICS)
    config = m.CreatableTopicConfig(name="max.message.bytes", value=str(16 << 20))
    topic = m.CreatableTopic(name=name, num_partitions=1, replication_factor=1, assignments=(), configs=(config,))
    answer = client.call(_CREATE_TOPICS, m.CreateTopicsRequest(topics=(topic,), timeout=timedelta(seconds=30)))
    if answer.topics[0].error_code.value:
        raise BrokerError(f"the topic was not created: {answer.topics[0].error_code.name}")
    for _ in range(200):
        frame = client.frame(_PRODUCE, produce_request(name, encode_batch(100)))
        client.socket.sendall(frame)
        if not error_of(client.receive()):
            return
        time.sleep(0.05)
    raise BrokerError("the topic got no leader")


def delete_topic(client: Client, name: str) -> None:
    """Delete the topic of the run."""
    m = schema(_DELETE_TOPICS)
    client.call(_DELETE_TOPICS, m.DeleteTopicsRequest(topic_names=(name,), timeout=timedelta(seconds=30)))


def produce_request(topic: str, batch: bytes) -> Any:
    """Produce of one batch with acks=all."""
    m = schema(_PRODUCE)
    partition = m.PartitionProduceData(index=0, records=batch)
    data = m.TopicProduceData(name=topic, partition_data=(partition,))
    return m.ProduceRequest(transactional_id=None, acks=-1, timeout=timedelta(seconds=30), topic_data=(data,))


def error_of(frame: bytes) -> int:
    """The error code in the answer to a Produce of one partition."""
    return int(decode(_PRODUCE, frame).responses[0].partition_responses[0].error_code.value)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    """One case: sizes in bytes, times in seconds."""

    request_bytes: int
    requests: int
    elapsed_s: float
    cpu_s: float
    latencies_s: list[float]

    def line(self) -> str:
        """One line of the report."""
        rank = sorted(self.latencies_s)
        p50, p99 = (rank[min(len(rank) - 1, int(len(rank) * q))] * 1000 for q in (0.5, 0.99))
        return (
            f"{self.request_bytes:>9} B  {self.requests / self.elapsed_s:>9.0f} requests/s "
            f"{self.requests * self.request_bytes / self.elapsed_s / 1e6:>8.1f} MB/s  "
            f"server CPU {self.cpu_s / self.requests * 1e6:>8.1f} us/request "
            f"({self.cpu_s / self.elapsed_s * 100:>3.0f} % of a core)  ack p50 {p50:.2f} ms p99 {p99:.2f} ms"
        )


def run(client: Client, topic: str, size_bytes: int, in_flight: int, seconds: float, pid: int) -> Figures:
    """Keep `in_flight` requests of this size under way for this long."""
    frame = client.frame(_PRODUCE, produce_request(topic, encode_batch(size_bytes)))
    sent: deque[float] = deque()
    latencies: list[float] = []
    started, cpu = time.perf_counter(), cpu_seconds(pid)
    end = started + seconds
    number = 0
    while True:
        now = time.perf_counter()
        while len(sent) < in_flight and now < end:
            struct.pack_into(">i", frame, 8, number & 0x7FFFFFFF)
            number += 1
            sent.append(time.perf_counter())
            client.socket.sendall(frame)
        if not sent:
            break
        answer = client.receive()
        latencies.append(time.perf_counter() - sent.popleft())
        # Every answer is checked without decoding it all: one like the first but for correlation id and offset.
        if len(latencies) % 256 == 1 and (code := error_of(answer)):
            raise BrokerError(f"Produce answered error {code}")
    elapsed = time.perf_counter() - started
    return Figures(size_bytes, len(latencies), elapsed, cpu_seconds(pid) - cpu, latencies)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--pid", required=True, type=int, help="process id of the server")
    parser.add_argument("--core", type=int, help="pin this client to one core")
    parser.add_argument("--seconds", type=float, default=10, help="length of one case")
    parser.add_argument("--warm-up", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=16, help="16 KB requests under way; of 1 MB a fourth of it")
    arguments = parser.parse_args()
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    client = Client(arguments.bootstrap)
    topic = f"hot-path-{os.getpid()}"
    create_topic(client, topic)
    try:
        for size, depth in ((16 << 10, arguments.in_flight), (1 << 20, max(1, arguments.in_flight // 4))):
            run(client, topic, size, depth, arguments.warm_up, arguments.pid)
            print(run(client, topic, size, depth, arguments.seconds, arguments.pid).line(), flush=True)
    finally:
        delete_topic(client, topic)
    return 0


if __name__ == "__main__":
    sys.exit(main())
