"""Incremental fetch sessions (KIP-227)."""

from __future__ import annotations

from tests.parity import apis
from tests.parity.cases import case
from tests.parity.target import Target, Topic
from tests.parity.wire import Plain

K = apis.FETCH
ALL = (7, 11, 12, 13, 18)


def opened(b: Target, v: int, partitions: int = 2) -> tuple[Topic, Plain, int]:
    """A topic with one record in partition 0, the first answer of a session over all its partitions, its id."""
    topic = b.topic(partitions)
    b.fill(topic, 1)
    parts = [{"partition": p, "fetch_offset": 0} for p in range(partitions)]
    answer = b.fetch(v, [(topic, parts)], session_id=0, session_epoch=0)
    return topic, answer, answer["session_id"]


@case(K, range(7, 19))
def first_request(b: Target, v: int) -> Plain:
    _, answer, session = opened(b, v)
    return {"answer": answer, "has_session": session != 0}


@case(K, ALL)
def nothing_new(b: Target, v: int) -> Plain:
    topic, _, session = opened(b, v)
    parts = [(topic, [{"partition": 0, "fetch_offset": 1}])]
    return b.fetch(v, parts, session_id=session, session_epoch=1)


@case(K, ALL)
def only_what_changed(b: Target, v: int) -> Plain:
    topic, _, session = opened(b, v)
    b.fill(topic, 2, partition=1)
    moved = [(topic, [{"partition": 0, "fetch_offset": 1}])]
    second = b.fetch(v, moved, session_id=session, session_epoch=1)
    moved = [(topic, [{"partition": 1, "fetch_offset": 2}])]
    third = b.fetch(v, moved, session_id=session, session_epoch=2)
    return {"second": second, "third": third}


@case(K, ALL)
def unmoved_partition_comes_again(b: Target, v: int) -> Plain:
    _, _, session = opened(b, v)
    return b.fetch(v, [], session_id=session, session_epoch=1)


@case(K, ALL)
def forgets(b: Target, v: int) -> Plain:
    topic, _, session = opened(b, v)
    b.fill(topic, 1, partition=1)
    return b.fetch(v, [], forget=[(topic, [0])], session_id=session, session_epoch=1)


@case(K, ALL)
def adds(b: Target, v: int) -> Plain:
    _, _, session = opened(b, v)
    other = b.topic()
    b.fill(other, 1)
    parts = [(other, [{"partition": 0, "fetch_offset": 0}])]
    return b.fetch(v, parts, session_id=session, session_epoch=1)


@case(K, ALL)
def unknown_session(b: Target, v: int) -> Plain:
    return b.fetch(v, b.topic(), session_id=123456, session_epoch=5)


@case(K, ALL)
def epoch_too_high(b: Target, v: int) -> Plain:
    _, _, session = opened(b, v)
    return b.fetch(v, [], session_id=session, session_epoch=9)


@case(K, ALL)
def epoch_repeated(b: Target, v: int) -> Plain:
    topic, _, session = opened(b, v)
    parts = [(topic, [{"partition": 0, "fetch_offset": 1}])]
    b.fetch(v, parts, session_id=session, session_epoch=1)
    return b.fetch(v, parts, session_id=session, session_epoch=1)


@case(K, ALL)
def closed(b: Target, v: int) -> Plain:
    topic, _, session = opened(b, v)
    parts = [(topic, [{"partition": 0, "fetch_offset": 0}])]
    final = b.fetch(v, parts, session_id=session, session_epoch=-1)
    after = b.fetch(v, [], session_id=session, session_epoch=1)
    return {"final": final, "after": after}


@case(K, ALL)
def replaced(b: Target, v: int) -> Plain:
    """A full request that names the old session ends it and opens another."""
    topic, _, session = opened(b, v)
    parts = [(topic, [{"partition": 0, "fetch_offset": 0}])]
    answer = b.fetch(v, parts, session_id=session, session_epoch=0)
    old = b.fetch(v, [], session_id=session, session_epoch=1)
    return {"answer": answer, "another": answer["session_id"] != session, "old": old}


@case(K, ALL)
def sessionless(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.fill(topic, 1)
    return b.fetch(v, topic, session_id=0, session_epoch=-1)


@case(K, (7, 12))
def unknown_topic_in_session_by_name(b: Target, v: int) -> Plain:
    parts = [(b.unknown_topic(), [{"partition": 0, "fetch_offset": 0}])]
    first = b.fetch(v, parts, session_id=0, session_epoch=0)
    second = b.fetch(v, [], session_id=first["session_id"], session_epoch=1)
    return {"first": first, "second": second}


@case(K, (13, 18))
def unknown_topic_in_session_by_id(b: Target, v: int) -> Plain:
    parts = [(b.unknown_topic(), [{"partition": 0, "fetch_offset": 0}])]
    first = b.fetch(v, parts, session_id=0, session_epoch=0)
    second = b.fetch(v, [], session_id=first["session_id"], session_epoch=1)
    return {"first": first, "second": second}


@case(K, (13,))
def session_of_names_used_with_ids(b: Target, v: int) -> Plain:
    _, _, session = opened(b, 12)
    return b.fetch(v, [], session_id=session, session_epoch=1)
