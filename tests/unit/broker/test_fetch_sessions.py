"""Incremental fetch sessions: what is asked, in which order, and every way to get the epoch wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from broker.fetching.sessions import EVICT_AFTER_MS, FetchContext, FetchSessions
from protocol.errors import ErrorCode


@dataclass
class Asked:
    """The part of a parsed Fetch request that sessions read."""

    session_id: int = 0
    session_epoch: int = 0
    topics: list[tuple[str, None, list[tuple[int, int, int, int, int, int]]]] = field(default_factory=list)
    forgotten: list[tuple[str, None, list[int]]] = field(default_factory=list)


def ask(*partitions: tuple[str, int, int]) -> list[tuple[str, None, list[tuple[int, int, int, int, int, int]]]]:
    return [(topic, None, [(index, -1, offset, -1, -1, 1 << 20)]) for topic, index, offset in partitions]


def sessions(slots: int = 10) -> FetchSessions:
    return FetchSessions(slots, random.Random(1))


def opened(cache: FetchSessions, *partitions: tuple[str, int, int], now_ms: int = 0) -> FetchContext:
    context = cache.context(Asked(topics=ask(*partitions)), by_id=False, now_ms=now_ms)  # type: ignore[arg-type]
    assert isinstance(context, FetchContext)
    return context


def again(cache: FetchSessions, request: Asked, *, by_id: bool = False, now_ms: int = 0) -> FetchContext | ErrorCode:
    return cache.context(request, by_id, now_ms)  # type: ignore[arg-type]


def offsets(context: FetchContext | ErrorCode) -> dict[tuple[object, int], int]:
    assert isinstance(context, FetchContext)
    return {(partition.topic, partition.index): partition.fetch_offset for partition in context.partitions}


def test_a_session_remembers_updates_and_forgets() -> None:
    cache = sessions()
    first = opened(cache, ("a", 0, 5), ("a", 1, 6), ("b", 0, 7))
    assert first.session_id > 0
    assert not first.incremental
    second = again(cache, Asked(first.session_id, 1, ask(("a", 1, 60), ("c", 0, 1)), [("b", None, [0])]))
    assert offsets(second) == {("a", 0): 5, ("a", 1): 60, ("c", 0): 1}
    assert isinstance(second, FetchContext)
    assert second.incremental
    assert offsets(again(cache, Asked(first.session_id, 2))) == {("a", 0): 5, ("a", 1): 60, ("c", 0): 1}


def test_of_a_partition_named_twice_the_last_counts() -> None:
    context = opened(sessions(), ("t", 0, 5), ("t", 1, 6), ("t", 0, 7))
    assert [(each.index, each.fetch_offset) for each in context.partitions] == [(0, 7), (1, 6)]


def test_wrong_epoch_unknown_id_and_mixed_topic_ids() -> None:
    cache = sessions()
    session_id = opened(cache, ("a", 0, 5)).session_id
    assert again(cache, Asked(session_id, 2)) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert again(cache, Asked(session_id + 1, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert again(cache, Asked(session_id, 1), by_id=True) is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    assert isinstance(again(cache, Asked(session_id, 1)), FetchContext)


def test_the_final_epoch_ends_a_session_and_still_answers() -> None:
    cache = sessions()
    session_id = opened(cache, ("a", 0, 5)).session_id
    last = again(cache, Asked(session_id, -1, ask(("a", 0, 9))))
    assert offsets(last) == {("a", 0): 9}
    assert len(cache) == 0
    assert again(cache, Asked(session_id, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_full_cache_serves_newcomers_without_a_session_until_one_is_stale() -> None:
    cache = sessions(slots=1)
    first = opened(cache, ("a", 0, 0))
    assert opened(cache, ("b", 0, 0), now_ms=EVICT_AFTER_MS - 1).session_id == 0
    assert opened(cache, ("b", 0, 0), now_ms=EVICT_AFTER_MS).session_id > 0
    assert again(cache, Asked(first.session_id, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_partition_that_got_data_is_served_last_next_time() -> None:
    cache = sessions()
    first = opened(cache, ("a", 0, 0), ("b", 0, 0), ("c", 0, 0))
    assert first.session is not None
    first.session.serve_last(first.partitions[0])
    order = [key[0] for key in offsets(again(cache, Asked(first.session_id, 1)))]
    assert order == ["b", "c", "a"]
