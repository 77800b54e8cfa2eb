"""Incremental fetch sessions: what is asked, in which order, and every way to get the epoch wrong."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

from broker.fetching.sessions import FetchSession, FetchSessions
from protocol.errors import ErrorCode

EVICT_AFTER_MS = 60_000
_VERSION = 12
_BY_ID_VERSION = 13
_ROW = struct.Struct(">iiqiqix")


@dataclass
class Asked:
    """The part of a parsed Fetch request that sessions read."""

    session_id: int = 0
    session_epoch: int = 0
    topics: list[tuple[str, None, list[bytes]]] = field(default_factory=list)
    forgotten: list[tuple[str, None, list[int]]] = field(default_factory=list)


def ask(*partitions: tuple[str, int, int]) -> list[tuple[str, None, list[bytes]]]:
    return [(topic, None, [_ROW.pack(index, -1, offset, -1, -1, 1 << 20)]) for topic, index, offset in partitions]


def sessions(slots: int = 10) -> FetchSessions:
    return FetchSessions(slots, EVICT_AFTER_MS, random.Random(1))


def opened(cache: FetchSessions, *partitions: tuple[str, int, int], now_ms: int = 0) -> FetchSession:
    session = again(cache, Asked(topics=ask(*partitions)), now_ms=now_ms)
    assert isinstance(session, FetchSession)
    return session


def again(
    cache: FetchSessions, request: Asked, *, by_id: bool = False, now_ms: int = 0
) -> FetchSession | ErrorCode | None:
    return cache.session_of(request, _BY_ID_VERSION if by_id else _VERSION, now_ms)  # type: ignore[arg-type]


def offsets(session: FetchSession | ErrorCode | None) -> dict[tuple[object, int], int]:
    assert isinstance(session, FetchSession)
    asked = session.to_look_at(incremental=False)
    return {(partition.topic, partition.index): partition.fetch_offset for partition in asked}


def test_a_session_remembers_updates_and_forgets() -> None:
    cache = sessions()
    first = opened(cache, ("a", 0, 5), ("a", 1, 6), ("b", 0, 7))
    assert first.session_id > 0
    second = again(cache, Asked(first.session_id, 1, ask(("a", 1, 60), ("c", 0, 1)), [("b", None, [0])]))
    assert offsets(second) == {("a", 0): 5, ("a", 1): 60, ("c", 0): 1}
    assert offsets(again(cache, Asked(first.session_id, 2))) == {("a", 0): 5, ("a", 1): 60, ("c", 0): 1}


def test_of_a_partition_named_twice_the_last_counts() -> None:
    session = opened(sessions(), ("t", 0, 5), ("t", 1, 6), ("t", 0, 7))
    assert [(each.index, each.fetch_offset) for each in session.to_look_at(incremental=True)] == [(0, 7), (1, 6)]


def test_wrong_epoch_unknown_id_and_mixed_topic_ids() -> None:
    cache = sessions()
    session_id = opened(cache, ("a", 0, 5)).session_id
    assert again(cache, Asked(session_id, 2)) is ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert again(cache, Asked(session_id + 1, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    assert again(cache, Asked(session_id, 1), by_id=True) is ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
    assert isinstance(again(cache, Asked(session_id, 1)), FetchSession)


def test_the_final_epoch_ends_a_session_and_still_answers() -> None:
    cache = sessions()
    session_id = opened(cache, ("a", 0, 5)).session_id
    assert again(cache, Asked(session_id, -1, ask(("a", 0, 9)))) is None
    assert len(cache) == 0
    assert again(cache, Asked(session_id, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_full_cache_serves_newcomers_without_a_session_until_one_is_stale() -> None:
    cache = sessions(slots=1)
    first = opened(cache, ("a", 0, 0))
    assert again(cache, Asked(topics=ask(("b", 0, 0))), now_ms=EVICT_AFTER_MS - 1) is None
    assert opened(cache, ("b", 0, 0), now_ms=EVICT_AFTER_MS).session_id > 0
    assert again(cache, Asked(first.session_id, 1)) is ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_partition_that_got_data_is_served_last_next_time() -> None:
    cache = sessions()
    first = opened(cache, ("a", 0, 0), ("b", 0, 0), ("c", 0, 0))
    first.serve_last(first.to_look_at(incremental=True)[0])
    again(cache, Asked(first.session_id, 1))
    assert [partition.topic for partition in first.to_look_at(incremental=True)] == ["b", "c", "a"]
