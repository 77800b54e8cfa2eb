"""Fetch: positions, limits, epochs, waiting, isolation."""

from __future__ import annotations

import time

from tests.parity import apis
from tests.parity.batches import batch
from tests.parity.cases import case, ends
from tests.parity.target import Target
from tests.parity.wire import Plain

K = apis.FETCH
SOME = ends(K, 12)
TWO = ((b"a", b"1"), (b"b", b"2"))


@case(K)
def valid(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 3)
    return b.fetch(v, topic)


@case(K)
def empty_partition(b: Target, v: int) -> Plain:
    return b.fetch(v, b.topic())


@case(K, SOME)
def at_the_end(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 2)
    return b.fetch(v, topic, offset=2)


@case(K)
def beyond_the_end(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 2)
    return b.fetch(v, topic, offset=3)


@case(K, SOME)
def beyond_the_end_with_others(b: Target, v: int) -> Plain:
    """An error in one partition answers at once, whatever min_bytes and max_wait say."""
    topic = b.topic(2)
    b.fill(topic, 1)
    wanted = [(topic, [{"partition": 0, "fetch_offset": 9}, {"partition": 1, "fetch_offset": 0}])]
    return b.fetch(v, wanted, max_wait=9000, min_bytes=1, timeout_s=4)


@case(K, SOME)
def negative_offset(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    return b.fetch(v, topic, offset=-1)


@case(K, SOME)
def before_the_start(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 3)
    wanted = [{"name": topic.name, "partitions": [{"partition_index": 0, "offset": 2}]}]
    b.call(apis.DELETE_RECORDS, 2, topics=wanted, timeout=5000)
    return {"before": b.fetch(v, topic, offset=1), "at": b.fetch(v, topic, offset=2)}


@case(K, SOME)
def inside_a_batch(b: Target, v: int) -> Plain:
    """The whole batch comes; the client skips."""
    topic = b.topic()
    b.produce(9, topic, batch(((b"a", b"1"), (b"b", b"2"), (b"c", b"3"))))
    return b.fetch(v, topic, offset=1)


@case(K)
def unknown_topic(b: Target, v: int) -> Plain:
    return b.fetch(v, b.unknown_topic())


@case(K, SOME)
def unknown_and_known(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    one = [{"partition": 0, "fetch_offset": 0}]
    return b.fetch(v, [(b.unknown_topic(), one), (topic, one)])


@case(K, SOME)
def unknown_partition(b: Target, v: int) -> Plain:
    return b.fetch(v, b.topic(), partition=5)


@case(K, SOME)
def negative_partition(b: Target, v: int) -> Plain:
    return b.fetch(v, b.topic(), partition=-1)


@case(K, SOME)
def no_topics(b: Target, v: int) -> Plain:
    return b.fetch(v, [])


@case(K, SOME)
def partition_twice(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 2)
    return b.fetch(v, [(topic, [{"partition": 0, "fetch_offset": 0}, {"partition": 0, "fetch_offset": 1}])])


@case(K, SOME)
def several_partitions(b: Target, v: int) -> Plain:
    topic, other = b.topic(3), b.topic()
    for p in range(3):
        b.fill(topic, p + 1, partition=p)
    parts = [{"partition": p, "fetch_offset": 0} for p in range(3)]
    return b.fetch(v, [(topic, parts), (other, parts[:1])])


@case(K, (9, 12, 18))
def epoch_too_high(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    return b.fetch(v, [(topic, [{"partition": 0, "fetch_offset": 0, "current_leader_epoch": 1000}])])


@case(K, (9, 12, 18))
def epoch_current(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    about = b.call(apis.METADATA, 9, topics=[{"name": topic.name}])
    epoch = about["topics"][0]["partitions"][0]["leader_epoch"]
    return b.fetch(v, [(topic, [{"partition": 0, "fetch_offset": 0, "current_leader_epoch": epoch}])])


@case(K, (12, 18))
def last_fetched_epoch_too_high(b: Target, v: int) -> Plain:
    """The consumer claims records of an epoch that never was: it is told where its log diverges."""
    topic = b.topic()
    b.fill(topic, 3)
    return b.fetch(v, [(topic, [{"partition": 0, "fetch_offset": 2, "last_fetched_epoch": 999}])])


@case(K, SOME)
def partition_limit_smaller_than_batch(b: Target, v: int) -> Plain:
    """At least one batch comes, or the consumer would be stuck."""
    topic = b.topic()
    b.fill(topic, 3)
    return b.fetch(v, [(topic, [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1}])])


@case(K, SOME)
def request_limit_smaller_than_batch(b: Target, v: int) -> Plain:
    topic = b.topic(2)
    b.fill(topic, 3)
    b.fill(topic, 3, partition=1)
    parts = [{"partition": p, "fetch_offset": 0} for p in (0, 1)]
    answer = b.fetch(v, [(topic, parts)], max_bytes=1)
    sizes = [len(p["records"] or b"") for p in answer["responses"][0]["partitions"]]
    return {"partitions_with_data": sum(s > 0 for s in sizes), "partitions": len(sizes)}


@case(K, SOME)
def partition_limit_cuts(b: Target, v: int) -> Plain:
    """150 bytes: two whole batches of 70, and not a part of the third that a client could take for corruption."""
    topic = b.topic()
    b.fill(topic, 4)
    return b.fetch(v, [(topic, [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 150}])])


@case(K, SOME)
def limits_of_zero(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 2)
    parts = [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 0}]
    return b.fetch(v, [(topic, parts)], max_bytes=0)


@case(K, SOME)
def waits_when_empty(b: Target, v: int) -> Plain:
    topic = b.topic()
    start = time.monotonic()
    answer = b.fetch(v, topic, max_wait=600)
    waited = time.monotonic() - start
    return {"waited": 0.5 < waited < 3, "answer": answer}


@case(K, SOME)
def waits_for_min_bytes(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    start = time.monotonic()
    answer = b.fetch(v, topic, max_wait=600, min_bytes=10_000)
    waited = time.monotonic() - start
    return {"waited": 0.5 < waited < 3, "answer": answer}


@case(K, SOME)
def wakes_on_new_data(b: Target, v: int) -> Plain:
    topic = b.topic()
    waiting = b.connect()
    waiting.send(
        K,
        v,
        replica_id=-1,
        max_wait=8000,
        min_bytes=1,
        topics=[
            {
                "topic": topic.name,
                "topic_id": topic.id,
                "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}],
            }
        ],
    )
    time.sleep(0.2)
    start = time.monotonic()
    b.fill(topic, 1)
    answer = waiting.recv(9)
    return {"woken": time.monotonic() - start < 4, "answer": answer}


@case(K, SOME)
def min_bytes_zero(b: Target, v: int) -> Plain:
    start = time.monotonic()
    answer = b.fetch(v, b.topic(), max_wait=5000, min_bytes=0)
    return {"at_once": time.monotonic() - start < 3, "answer": answer}


@case(K, SOME)
def read_committed(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 2)
    return b.fetch(v, topic, isolation_level=1)


@case(K, SOME)
def isolation_level_unknown(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    return b.fetch(v, topic, isolation_level=7)


@case(K, (4, 9, 10, 18))
def zstd_data(b: Target, v: int) -> Plain:
    """Consumers before version 10 cannot read zstd and are told so."""
    topic = b.topic()
    b.produce(9, topic, batch(TWO, codec="zstd"))
    return b.fetch(v, topic)


@case(K, SOME)
def rack(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    return b.fetch(v, topic, rack_id="somewhere")


@case(K, (12, 18))
def wrong_cluster_id(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    return b.fetch(v, topic, cluster_id="another-cluster")


@case(K, (4, 11, 14))
def as_unknown_follower(b: Target, v: int) -> Plain:
    """A replica id that is not in the replica set."""
    topic = b.topic()
    b.fill(topic, 1)
    return b.fetch(v, topic, replica_id=4242)


@case(K, SOME)
def deleted_topic(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    b.call(apis.DELETE_TOPICS, 5, topic_names=[topic.name], timeout=10000)
    time.sleep(0.5)
    return b.fetch(v, topic)
