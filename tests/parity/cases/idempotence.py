"""Produce with producer ids: sequences, duplicates, epochs and what an unknown producer gets."""

from __future__ import annotations

from tests.parity import apis
from tests.parity.batches import batch
from tests.parity.cases import case, ends
from tests.parity.target import Target, Topic
from tests.parity.wire import Plain

K = apis.PRODUCE
SOME = ends(K, 8)
TWO = ((b"a", b"1"), (b"b", b"2"))


def send(b: Target, v: int, topic: Topic, pid: int, sequence: int, *, epoch: int = 0, count: int = 1) -> Plain:
    data = batch(
        tuple((b"k", b"%d" % (sequence + i)) for i in range(count)),
        producer_id=pid,
        producer_epoch=epoch,
        sequence=sequence,
    )
    return b.produce(v, topic, data)


def sequence_of(b: Target, v: int, *steps: tuple[int, int, int]) -> Plain:
    """The answers to (sequence, epoch, count) steps of one producer, and what was stored."""
    topic, pid = b.topic(), b.producer_id()
    answers = [send(b, v, topic, pid, s, epoch=e, count=n) for s, e, n in steps]
    return {"answers": answers, "stored": b.fetch(11, topic)}


@case(K)
def in_order(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (0, 0, 1), (1, 0, 2), (3, 0, 1))


@case(K)
def duplicate_of_last(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (0, 0, 1), (1, 0, 2), (1, 0, 2))


@case(K, SOME)
def duplicate_of_fifth_last(b: Target, v: int) -> Plain:
    return sequence_of(b, v, *((i, 0, 1) for i in range(5)), (0, 0, 1))


@case(K, SOME)
def duplicate_of_sixth_last(b: Target, v: int) -> Plain:
    return sequence_of(b, v, *((i, 0, 1) for i in range(6)), (0, 0, 1))


@case(K, SOME)
def overlaps_a_duplicate(b: Target, v: int) -> Plain:
    """The sequences 1-3 after 0-2: neither a duplicate nor the next."""
    return sequence_of(b, v, (0, 0, 3), (1, 0, 3))


@case(K, SOME)
def part_of_a_duplicate(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (0, 0, 3), (0, 0, 2), (2, 0, 1))


@case(K)
def gap(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (0, 0, 1), (2, 0, 1), (1, 0, 1))


@case(K, SOME)
def first_not_zero(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (5, 0, 1), (6, 0, 1), (0, 0, 1))


@case(K, SOME)
def epoch_rises(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (0, 0, 2), (0, 1, 1), (1, 1, 1))


@case(K, SOME)
def epoch_rises_sequence_goes_on(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (0, 0, 2), (2, 1, 1))


@case(K, SOME)
def epoch_falls(b: Target, v: int) -> Plain:
    return sequence_of(b, v, (0, 3, 1), (1, 2, 1), (1, 3, 1))


@case(K, SOME)
def negative_sequence(b: Target, v: int) -> Plain:
    topic, pid = b.topic(), b.producer_id()
    data = batch(producer_id=pid, producer_epoch=0, sequence=-1)
    return {"answer": b.produce(v, topic, data), "stored": b.fetch(11, topic)}


@case(K, SOME)
def negative_epoch(b: Target, v: int) -> Plain:
    topic, pid = b.topic(), b.producer_id()
    data = batch(producer_id=pid, producer_epoch=-1, sequence=0)
    return {"answer": b.produce(v, topic, data), "stored": b.fetch(11, topic)}


@case(K, SOME)
def sequence_wraps(b: Target, v: int) -> Plain:
    last = 2**31 - 1
    return sequence_of(b, v, (last - 1, 0, 1), (last, 0, 2), (1, 0, 1))


@case(K, SOME)
def unknown_producer_id(b: Target, v: int) -> Plain:
    topic = b.topic()
    return {"answer": send(b, v, topic, 999_999_999, 0), "stored": b.fetch(11, topic)}


@case(K, SOME)
def two_producers(b: Target, v: int) -> Plain:
    topic, one, two = b.topic(), b.producer_id(), b.producer_id()
    answers = [send(b, v, topic, pid, s) for s in (0, 1) for pid in (one, two)]
    return {"answers": answers, "stored": b.fetch(11, topic)}


@case(K, SOME)
def refused_batch_takes_no_sequence(b: Target, v: int) -> Plain:
    """A batch that fails validation leaves the producer's state as it was."""
    topic, pid = b.topic(max_message_bytes="200"), b.producer_id()
    large = batch(((b"k", b"x" * 300),), producer_id=pid, producer_epoch=0, sequence=1)
    first = send(b, v, topic, pid, 0)
    return [first, b.produce(v, topic, large), send(b, v, topic, pid, 1), b.fetch(11, topic)]


@case(K, SOME)
def two_batches_in_one_partition(b: Target, v: int) -> Plain:
    topic, pid = b.topic(), b.producer_id()
    one = batch(producer_id=pid, producer_epoch=0, sequence=0)
    two = batch(producer_id=pid, producer_epoch=0, sequence=1)
    return {"answer": b.produce(v, topic, one + two), "stored": b.fetch(11, topic)}


@case(K, SOME)
def pipelined(b: Target, v: int) -> Plain:
    """Five in flight on one connection, as idempotent producers do."""
    topic, pid = b.topic(), b.producer_id()
    connection = b.connect()
    for i in range(5):
        data = batch(producer_id=pid, producer_epoch=0, sequence=i)
        entry = {"name": topic.name, "topic_id": topic.id, "partition_data": [{"index": 0, "records": data}]}
        connection.send(K, v, transactional_id=None, acks=-1, timeout=5000, topic_data=[entry])
    return [connection.recv() for _ in range(5)]
