"""Prints the costs that `protocol/README.md` lists: `python -m tests.unit.protocol.measure_costs`.

Each figure is the best of many short runs, so that other work on the machine disturbs it little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from kio.serial import entity_reader

from protocol.fetch import encode_fetch_response, parse_fetch_request
from protocol.headers import parse_request_header
from protocol.message_schema import load
from protocol.messages import decode_request, decode_response, encode_request, encode_response
from protocol.produce import encode_accepted, encode_produce_response, parse_produce_request
from protocol.records import Record, assign, encode_batch, iter_records, validate_produce_batch
from tests.unit.protocol.message_samples import kio_bytes

TOPIC = {"name": "topic-name", "topic_id": bytes(range(16))}


def show(name: str, action: Callable[[], Any]) -> None:
    action()
    once = min(_timed(action, 1) for _ in range(5))
    repeats = max(1, int(0.002 / max(once, 1e-7)))
    best = min(_timed(action, repeats) for _ in range(60))
    print(f"{name:58} {best * 1e6:9.2f} us")


def _timed(action: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    return (time.perf_counter() - start) / repeats


def frame(api_key: int, version: int, body: dict[str, Any]) -> tuple[memoryview, int]:
    view = memoryview(bytearray(encode_request(api_key, version, 1, "client-id", body)))[4:]
    return view, parse_request_header(view).body_offset


def produce() -> None:
    for size in (16 * 1024, 1024 * 1024):
        batch = encode_batch([Record(None, bytes(size - 80))])
        body = {"transactional_id": None, "acks": -1, "timeout": 1000}
        for version in (8, 13):
            topic = {**TOPIC, "partition_data": [{"index": 0, "records": batch}]}
            view, offset = frame(0, version, {**body, "topic_data": [topic]})
            show(
                f"parse Produce v{version}, 1 partition, {size // 1024} KiB",
                partial(parse_produce_request, version, view, offset),
            )
        show(f"validate batch of {size // 1024} KiB", partial(validate_produce_batch, memoryview(batch)))
    show("parse request header v2", partial(parse_request_header, view))
    show("assign offset and leader epoch", partial(assign, memoryview(batch), 5, 6))
    for version in (8, 13):
        for count in (1, 100):
            show(f"write Produce response v{version}, {count} partitions", partial(produce_response, version, count))


def produce_response(version: int, count: int) -> bytes:
    rows = [encode_accepted(version, index, 1000, -1, 0) for index in range(count)]
    return encode_produce_response(version, 1, [("topic-name", bytes(range(16)), rows)])


def fetch() -> None:
    records = [memoryview(bytes(16 * 1024))]
    for version in (11, 17):
        for count in (1, 100):
            rows = [{"partition": index, "fetch_offset": 5, "partition_max_bytes": 1} for index in range(count)]
            body = {"max_wait": 500, "min_bytes": 1, "forgotten_topics_data": []}
            topic = {"topic": "topic-name", "topic_id": bytes(range(16)), "partitions": rows}
            view, offset = frame(1, version, {**body, "topics": [topic]})
            show(f"parse Fetch v{version}, {count} partitions", partial(parse_fetch_request, version, view, offset))
            out = [(index, 0, 9, 9, 0, None, -1, records, None, None) for index in range(count)]
            topics = [("topic-name", bytes(range(16)), out)]
            show(
                f"write Fetch response v{version}, {count} partitions",
                partial(encode_fetch_response, version, 1, 0, 0, 0, topics),
            )


def messages() -> None:
    group = {"group_id": "group", "member_id": "member"}
    view, offset = frame(12, 4, {**group, "generation_id": 1})
    show("decode Heartbeat v4", partial(decode_request, 12, 4, view, offset))
    show("encode Heartbeat response v4", partial(encode_response, 12, 4, 1, {"error_code": 0, "throttle_time": 0}))
    rows = [{"partition_index": index, "committed_offset": 5, "committed_metadata": ""} for index in range(1000)]
    view, offset = frame(8, 8, {**group, "generation_id_or_member_epoch": 1, "topics": [{**TOPIC, "partitions": rows}]})
    show("decode OffsetCommit v8, 1000 partitions", partial(decode_request, 8, 8, view, offset))
    native = entity_reader(load(8, 8, "request").entity)
    show("  kio's native reader", partial(native, view.toreadonly(), offset))
    partitions = [
        {"error_code": 0, "partition_index": index, "leader_id": 1, "replica_nodes": [1], "isr_nodes": [1]}
        for index in range(100)
    ]
    topic = {**TOPIC, "error_code": 0, "partitions": partitions}
    body = {"brokers": [], "controller_id": 1, "topics": [topic], "error_code": 0, "throttle_time": 0}
    show("encode Metadata response v12, 100 partitions", partial(encode_response, 3, 12, 1, body))
    _, entity = decode_response(3, 12, encode_response(3, 12, 1, body)[4:])
    show("  kio's writer", partial(kio_bytes, entity))
    batch = memoryview(encode_batch([Record(b"key", b"v" * 100)] * 1000))
    show("iterate 1000 records", lambda: sum(1 for _ in iter_records(batch)))


if __name__ == "__main__":
    produce()
    fetch()
    messages()
