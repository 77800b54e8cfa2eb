"""Produce: acks, batch validation, limits and many partitions in one request."""

from __future__ import annotations

import time
from typing import Any

from tests.parity import apis
from tests.parity.batches import TIMESTAMP_MS, batch, message_set, record
from tests.parity.cases import case, ends
from tests.parity.target import Target, Topic
from tests.parity.wire import Plain

K = apis.PRODUCE
SOME = ends(K, 7, 9)
TWO = ((b"a", b"1"), (b"b", b"2"))


def stored(b: Target, topic: Topic, answer: Plain) -> dict[str, Any]:
    """The answer and what a consumer then finds."""
    return {"answer": answer, "stored": b.fetch(11, topic)}


@case(K)
def valid(b: Target, v: int) -> Plain:
    topic = b.topic()
    first = b.produce(v, topic, batch(TWO))
    second = b.produce(v, topic, batch())
    return {"first": first, "second": second, "stored": b.fetch(11, topic)}


@case(K, ends(K))
def acks_one(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(), acks=1))


@case(K, SOME)
def acks_zero(b: Target, v: int) -> Plain:
    """No answer to the Produce: the next answer on the connection is that of the next request."""
    topic = b.topic()
    connection = b.connect()
    data = [{"index": 0, "records": batch()}]
    topics = [{"name": topic.name, "topic_id": topic.id, "partition_data": data}]
    connection.send(K, v, transactional_id=None, acks=0, timeout=1000, topic_data=topics)
    connection.pending.clear()
    following = connection.call(apis.HEARTBEAT, 0, group_id="", generation_id=0, member_id="")
    return {"following": following, "stored": b.fetch_to(11, topic, 1)}


@case(K, ends(K))
def acks_zero_unknown_topic(b: Target, v: int) -> Plain:
    """An error nobody can be told: the connection is closed."""
    topic = b.unknown_topic()
    connection = b.connect()
    data = [{"index": 0, "records": batch()}]
    topics = [{"name": b.token + "/bad", "topic_id": topic.id, "partition_data": data}]
    connection.send(K, v, transactional_id=None, acks=0, timeout=1000, topic_data=topics)
    connection.pending.clear()
    time.sleep(0.3)
    return connection.call(apis.HEARTBEAT, 0, group_id="", generation_id=0, member_id="")


@case(K, SOME)
def acks_two(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(), acks=2))


@case(K, ends(K))
def acks_minus_two(b: Target, v: int) -> Plain:
    return b.produce(v, b.topic(), batch(), acks=-2)


@case(K, ends(K, 12))
def unknown_topic(b: Target, v: int) -> Plain:
    return b.produce(v, b.unknown_topic(), batch())


@case(K, ends(K))
def unknown_partition(b: Target, v: int) -> Plain:
    return b.produce(v, b.topic(), batch(), partition=7)


@case(K, ends(K))
def negative_partition(b: Target, v: int) -> Plain:
    return b.produce(v, b.topic(), batch(), partition=-1)


@case(K, (3, 9))
def empty_topic_name(b: Target, v: int) -> Plain:
    return b.produce(v, Topic("", b.unknown_topic().id), batch())


@case(K, ends(K))
def zero_topic_id(b: Target, v: int) -> Plain:
    return b.produce(v, Topic(b.name("zero"), None), batch())  # type: ignore[arg-type]


@case(K, ends(K))
def no_topics(b: Target, v: int) -> Plain:
    return b.call(K, v, transactional_id=None, acks=-1, timeout=1000, topic_data=[])


@case(K, ends(K))
def no_partitions(b: Target, v: int) -> Plain:
    return b.produce(v, b.topic(), [])


@case(K, ends(K))
def good_and_bad_partitions(b: Target, v: int) -> Plain:
    topic = b.topic(2)
    answer = b.produce(v, topic, [(0, batch()), (1, batch(crc=1)), (9, batch())])
    return stored(b, topic, answer)


@case(K, ends(K))
def partition_twice(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, [(0, batch()), (0, batch(TWO))]))


@case(K, ends(K))
def topic_twice(b: Target, v: int) -> Plain:
    topic = b.topic(2)
    entries = [
        {"name": topic.name, "topic_id": topic.id, "partition_data": [{"index": i, "records": batch()}]} for i in (0, 1)
    ]
    answer = b.call(K, v, transactional_id=None, acks=-1, timeout=1000, topic_data=entries)
    return stored(b, topic, answer)


def _codec(b: Target, v: int, codec: str) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(TWO, codec=codec)))


@case(K, SOME)
def gzip(b: Target, v: int) -> Plain:
    return _codec(b, v, "gzip")


@case(K, SOME)
def snappy(b: Target, v: int) -> Plain:
    return _codec(b, v, "snappy")


@case(K, SOME)
def lz4(b: Target, v: int) -> Plain:
    return _codec(b, v, "lz4")


@case(K, (3, 6, 7, 13))
def zstd(b: Target, v: int) -> Plain:
    topic = b.topic()
    return {"answer": b.produce(v, topic, batch(TWO, codec="zstd")), "stored": b.fetch(12, topic)}


@case(K, ends(K))
def codec_bits_unknown(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(attributes=5)))


@case(K, ends(K))
def codec_bits_lie(b: Target, v: int) -> Plain:
    """The bits say gzip and the data are not."""
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(attributes=1)))


@case(K, SOME)
def bad_crc(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(crc=12345)))


@case(K, SOME)
def truncated_batch(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(TWO)[:-3]))


@case(K, ends(K))
def truncated_header(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch()[:40]))


@case(K, ends(K))
def few_bytes(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, b"\0\0\0"))


@case(K, ends(K))
def length_too_small(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(length=10)))


@case(K, ends(K))
def length_negative(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(length=-5)))


@case(K, ends(K))
def trailing_garbage(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch() + b"garbage"))


@case(K, SOME)
def empty_records(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, b""))


@case(K, SOME)
def null_records(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, None))


@case(K, SOME)
def magic_zero(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, message_set(0)))


@case(K, SOME)
def magic_one(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, message_set(1)))


@case(K, ends(K))
def magic_three(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(magic=3)))


@case(K, SOME)
def two_batches(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch() + batch(TWO)))


@case(K, ends(K))
def record_count_too_high(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(TWO, count=3, last_offset_delta=2)))


@case(K, ends(K))
def record_count_differs_from_offsets(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(TWO, last_offset_delta=5)))


@case(K, ends(K))
def record_count_zero(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch((), last_offset_delta=0)))


@case(K, ends(K))
def record_count_negative(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(count=-1)))


@case(K, ends(K))
def offset_deltas_wrong(b: Target, v: int) -> Plain:
    """Records numbered 0 and 0."""
    topic = b.topic()
    data = batch(TWO, raw=record(0, b"a", b"1") + record(0, b"b", b"2"))
    return stored(b, topic, b.produce(v, topic, data))


@case(K, ends(K))
def record_garbage(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(raw=b"\xff" * 20)))


@case(K, ends(K))
def base_offset_given(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(base_offset=777)))


@case(K, ends(K))
def leader_epoch_given(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(leader_epoch=55)))


@case(K, ends(K))
def control_batch(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(attributes=0x20)))


@case(K, ends(K))
def transactional_batch_without_id(b: Target, v: int) -> Plain:
    topic = b.topic()
    data = batch(attributes=0x10, producer_id=b.producer_id(), producer_epoch=0, sequence=0)
    return stored(b, topic, b.produce(v, topic, data))


@case(K, ends(K))
def null_key_and_value(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(((None, None),))))


@case(K, SOME)
def too_large_for_topic(b: Target, v: int) -> Plain:
    topic = b.topic(max_message_bytes="200")
    answer = b.produce(v, topic, batch(((b"k", b"x" * 200),)))
    return {"large": answer, "small": b.produce(v, topic, batch()), "stored": b.fetch(11, topic)}


@case(K, ends(K))
def exactly_the_limit(b: Target, v: int) -> Plain:
    data = batch(((b"k", b"x" * 100),))
    fits, fails = b.topic(max_message_bytes=str(len(data))), b.topic(max_message_bytes=str(len(data) - 1))
    return {"fits": b.produce(v, fits, data), "fails": b.produce(v, fails, data)}


@case(K, ends(K))
def compacted_needs_keys(b: Target, v: int) -> Plain:
    topic = b.topic(cleanup_policy="compact")
    return stored(b, topic, b.produce(v, topic, batch(((b"k", b"1"), (None, b"2"), (None, b"3")))))


@case(K, ends(K))
def log_append_time(b: Target, v: int) -> Plain:
    topic = b.topic(message_timestamp_type="LogAppendTime")
    return stored(b, topic, b.produce(v, topic, batch(TWO)))


@case(K, ends(K))
def client_says_log_append_time(b: Target, v: int) -> Plain:
    """A client must not set the timestamp type itself."""
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(attributes=8)))


@case(K, ends(K))
def too_old(b: Target, v: int) -> Plain:
    topic = b.topic(message_timestamp_before_max_ms="60000")
    return stored(b, topic, b.produce(v, topic, batch(TWO)))


@case(K, ends(K))
def too_new(b: Target, v: int) -> Plain:
    topic = b.topic(message_timestamp_after_max_ms="60000")
    return stored(b, topic, b.produce(v, topic, batch(TWO, base_timestamp=4_000_000_000_000)))


@case(K, ends(K))
def too_new_by_default(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(base_timestamp=4_000_000_000_000)))


@case(K, ends(K))
def no_timestamp(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(base_timestamp=-1)))


@case(K, ends(K))
def max_timestamp_lies(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(TWO, max_timestamp=TIMESTAMP_MS + 5000)))


@case(K, ends(K))
def topic_compression_gzip(b: Target, v: int) -> Plain:
    topic = b.topic(compression_type="gzip")
    answer = b.produce(v, topic, batch(((b"k", b"x" * 300),)))
    found = b.fetch(11, topic)
    return {"answer": answer, "error": found["responses"][0]["partitions"][0]["error_code"]}


@case(K, ends(K))
def topic_compression_uncompressed(b: Target, v: int) -> Plain:
    topic = b.topic(compression_type="uncompressed")
    return stored(b, topic, b.produce(v, topic, batch(TWO, codec="lz4")))


@case(K, ends(K))
def log_start_after_delete(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 4)
    wanted = [{"name": topic.name, "partitions": [{"partition_index": 0, "offset": 3}]}]
    deleted = b.call(apis.DELETE_RECORDS, 2, topics=wanted, timeout=5000)
    return {"deleted": deleted, "answer": b.produce(v, topic, batch())}


@case(K, ends(K))
def transactional_id_without_transaction(b: Target, v: int) -> Plain:
    topic = b.topic()
    return stored(b, topic, b.produce(v, topic, batch(), transactional_id=b.name("txn")))


@case(K, (0, 1, 2))
def version_advertised_but_not_served(b: Target, v: int) -> Plain:
    """Produce 0-2: in ApiVersions for old librdkafka, never answered."""
    connection = b.connect()
    topic = b.topic()
    name = topic.name.encode()
    message = message_set(0 if v < 2 else 1)
    body = b"\xff\xff\0\0\x03\xe8\0\0\0\1" + len(name).to_bytes(2, "big") + name + b"\0\0\0\1\0\0\0\0"
    body += len(message).to_bytes(4, "big") + message
    head = K.to_bytes(2, "big") + v.to_bytes(2, "big") + b"\0\0\0\7\xff\xff"
    connection.send_raw(len(head + body).to_bytes(4, "big") + head + body)
    frame = connection.recv_frame(3)
    return {"frame": "silence" if frame is None else frame.hex() or "closed"}
