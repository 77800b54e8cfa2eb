"""ListOffsets: the special timestamps, lookup by time, errors; OffsetForLeaderEpoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.parity import apis
from tests.parity.batches import TIMESTAMP_MS, batch
from tests.parity.cases import case, ends
from tests.parity.target import Target, Topic
from tests.parity.wire import Plain

K = apis.LIST_OFFSETS
EPOCHS = apis.OFFSET_FOR_LEADER_EPOCH
SOME = ends(K, 5)


def ask(b: Target, v: int, topic: Topic, partitions: Sequence[dict[str, Any]], **values: Any) -> Plain:
    request = {"replica_id": -1, "isolation_level": 0, "timeout": 5000, **values}
    return b.call(K, v, topics=[{"name": topic.name, "partitions": list(partitions)}], **request)


def at(b: Target, v: int, timestamp: int, **values: Any) -> Plain:
    """The answer for a partition with records at 0, 1000 and 2000 ms."""
    topic = b.topic()
    b.fill(topic, 3)
    return ask(b, v, topic, [{"partition_index": 0, "timestamp": timestamp}], **values)


@case(K)
def earliest(b: Target, v: int) -> Plain:
    return at(b, v, -2)


@case(K)
def latest(b: Target, v: int) -> Plain:
    return at(b, v, -1)


@case(K)
def max_timestamp(b: Target, v: int) -> Plain:
    return at(b, v, -3)


@case(K)
def earliest_local(b: Target, v: int) -> Plain:
    return at(b, v, -4)


@case(K)
def latest_tiered(b: Target, v: int) -> Plain:
    return at(b, v, -5)


@case(K)
def earliest_pending_upload(b: Target, v: int) -> Plain:
    return at(b, v, -6)


@case(K, SOME)
def unknown_special(b: Target, v: int) -> Plain:
    return at(b, v, -20)


@case(K)
def by_time_exact(b: Target, v: int) -> Plain:
    return at(b, v, TIMESTAMP_MS + 1000)


@case(K, SOME)
def by_time_between(b: Target, v: int) -> Plain:
    return at(b, v, TIMESTAMP_MS + 1001)


@case(K, SOME)
def by_time_before_all(b: Target, v: int) -> Plain:
    return at(b, v, 0)


@case(K)
def by_time_after_all(b: Target, v: int) -> Plain:
    return at(b, v, TIMESTAMP_MS + 5000)


@case(K, SOME)
def by_time_inside_a_batch(b: Target, v: int) -> Plain:
    """The offset of the record, not of its batch."""
    topic = b.topic()
    records = tuple((b"k", b"%d" % i) for i in range(5))
    b.produce(9, topic, batch(records, timestamp_step=100))
    b.produce(9, topic, batch(records, timestamp_step=100, codec="zstd", base_timestamp=TIMESTAMP_MS + 1000))
    wanted = [(0, TIMESTAMP_MS + 150), (0, TIMESTAMP_MS + 1300)]
    return [ask(b, v, topic, [{"partition_index": p, "timestamp": t}]) for p, t in wanted]


@case(K, SOME)
def by_time_out_of_order(b: Target, v: int) -> Plain:
    topic = b.topic()
    for shift in (5000, 1000, 3000):
        b.produce(9, topic, batch(base_timestamp=TIMESTAMP_MS + shift))
    times = (1000, 2000, 4000, 6000)
    return [ask(b, v, topic, [{"partition_index": 0, "timestamp": TIMESTAMP_MS + t}]) for t in times]


@case(K, (7, 11))
def max_timestamp_inside_a_batch(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.produce(9, topic, batch(((b"k", b"1"), (b"k", b"2")), timestamp_step=500))
    b.produce(9, topic, batch(base_timestamp=TIMESTAMP_MS + 200))
    return ask(b, v, topic, [{"partition_index": 0, "timestamp": -3}])


@case(K, SOME)
def empty_partition(b: Target, v: int) -> Plain:
    topic = b.topic()
    times = (-1, -2, 0) if v < 7 else (-1, -2, -3, 0)
    return [ask(b, v, topic, [{"partition_index": 0, "timestamp": t}]) for t in times]


@case(K, SOME)
def after_delete_records(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 4)
    wanted = [{"name": topic.name, "partitions": [{"partition_index": 0, "offset": 2}]}]
    b.call(apis.DELETE_RECORDS, 2, topics=wanted, timeout=5000)
    return [ask(b, v, topic, [{"partition_index": 0, "timestamp": t}]) for t in (-2, -1, 0, TIMESTAMP_MS)]


@case(K, SOME)
def unknown_topic(b: Target, v: int) -> Plain:
    return ask(b, v, b.unknown_topic(), [{"partition_index": 0, "timestamp": -1}])


@case(K, SOME)
def unknown_partition(b: Target, v: int) -> Plain:
    return ask(b, v, b.topic(), [{"partition_index": 3, "timestamp": -1}])


@case(K, SOME)
def partition_twice(b: Target, v: int) -> Plain:
    parts = [{"partition_index": 0, "timestamp": t} for t in (-1, -2)]
    return ask(b, v, b.topic(), parts)


@case(K, SOME)
def several(b: Target, v: int) -> Plain:
    topic = b.topic(3)
    b.fill(topic, 2, partition=1)
    parts = [{"partition_index": p, "timestamp": -1} for p in range(4)]
    return ask(b, v, topic, parts)


@case(K, SOME)
def no_topics(b: Target, v: int) -> Plain:
    return b.call(K, v, replica_id=-1, isolation_level=0, topics=[], timeout=1000)


@case(K, (2, 11))
def read_committed(b: Target, v: int) -> Plain:
    return at(b, v, -1, isolation_level=1)


@case(K, (4, 11))
def epoch_too_high(b: Target, v: int) -> Plain:
    topic = b.topic()
    return ask(b, v, topic, [{"partition_index": 0, "timestamp": -1, "current_leader_epoch": 1000}])


@case(K, SOME)
def as_follower(b: Target, v: int) -> Plain:
    return at(b, v, -1, replica_id=4242)


@case(K, SOME)
def log_append_time(b: Target, v: int) -> Plain:
    topic = b.topic(message_timestamp_type="LogAppendTime")
    b.fill(topic, 2)
    return [ask(b, v, topic, [{"partition_index": 0, "timestamp": t}]) for t in (0, TIMESTAMP_MS + 10**12)]


# -------------------- OffsetForLeaderEpoch


def epoch_end(b: Target, v: int, topic: Topic, leader_epoch: int, current: int = -1, partition: int = 0) -> Plain:
    wanted = {"partition": partition, "current_leader_epoch": current, "leader_epoch": leader_epoch}
    return b.call(EPOCHS, v, replica_id=-1, topics=[{"topic": topic.name, "partitions": [wanted]}])


def leader_epoch(b: Target, topic: Topic) -> int:
    about = b.call(apis.METADATA, 9, topics=[{"name": topic.name}])
    return int(about["topics"][0]["partitions"][0]["leader_epoch"])


@case(EPOCHS)
def epoch_current(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 3)
    epoch = leader_epoch(b, topic)
    return [epoch_end(b, v, topic, epoch), epoch_end(b, v, topic, epoch, epoch)]


@case(EPOCHS)
def epoch_of_the_future(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 3)
    return epoch_end(b, v, topic, leader_epoch(b, topic) + 100)


@case(EPOCHS)
def epoch_negative(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 3)
    return epoch_end(b, v, topic, -1)


@case(EPOCHS)
def epoch_request_from_the_future(b: Target, v: int) -> Plain:
    return epoch_end(b, v, b.topic(), 0, current=1000)


@case(EPOCHS)
def epoch_of_empty_log(b: Target, v: int) -> Plain:
    topic = b.topic()
    return epoch_end(b, v, topic, leader_epoch(b, topic))


@case(EPOCHS)
def epoch_unknown_topic(b: Target, v: int) -> Plain:
    return epoch_end(b, v, b.unknown_topic(), 0)


@case(EPOCHS)
def epoch_unknown_partition(b: Target, v: int) -> Plain:
    return epoch_end(b, v, b.topic(), 0, partition=4)
