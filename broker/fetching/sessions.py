"""Incremental fetch sessions (KIP-227): the partitions of a consumer are named once, then only changes travel.

A session lives on the broker, not on a connection. Bounded: `max.incremental.fetch.session.cache.slots`; when full, a
session unused for two minutes gives its place up, otherwise the newcomer is answered without a session (id 0) and goes
on with full requests, as in Kafka's FetchSessionCache.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol.errors import ErrorCode

if TYPE_CHECKING:
    from protocol.fetch import FetchRequest

NO_SESSION = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
EVICT_AFTER_MS = 120_000
_MAX_EPOCH = 2**31 - 1

PartitionKey = tuple[str | bytes, int]
"""(topic name or 16-byte topic id, partition index)"""


class FetchPartition:
    """One partition of a fetch as the consumer last described it, and what it was last told."""

    __slots__ = (
        "current_leader_epoch",
        "fetch_offset",
        "index",
        "last_fetched_epoch",
        "max_bytes",
        "told_high_watermark",
        "told_start_offset",
        "topic",
    )

    def __init__(
        self,
        topic: str | bytes,
        index: int,
        current_leader_epoch: int,
        fetch_offset: int,
        last_fetched_epoch: int,
        max_bytes: int,
    ) -> None:
        self.topic = topic
        self.index = index
        self.current_leader_epoch = current_leader_epoch
        self.fetch_offset = fetch_offset
        self.last_fetched_epoch = last_fetched_epoch
        self.max_bytes = max_bytes
        self.told_high_watermark = -1
        self.told_start_offset = -1


class FetchSession:
    """The partitions of one consumer, in the order in which they are next served."""

    __slots__ = ("by_id", "epoch", "partitions", "session_id", "used_at_ms")

    def __init__(self, session_id: int, by_id: bool, now_ms: int) -> None:
        self.session_id = session_id
        self.epoch = 1
        self.by_id = by_id
        self.used_at_ms = now_ms
        self.partitions: dict[PartitionKey, FetchPartition] = {}

    def serve_last(self, partition: FetchPartition) -> None:
        """A partition that just got data goes to the end, so that a small max_bytes starves none."""
        key = (partition.topic, partition.index)
        if self.partitions.pop(key, None) is not None:
            self.partitions[key] = partition


class FetchContext:
    """What one request asks for. `incremental`: answer only what has something to say."""

    __slots__ = ("incremental", "partitions", "session", "session_id")

    def __init__(
        self, partitions: Sequence[FetchPartition], session: FetchSession | None, session_id: int, incremental: bool
    ) -> None:
        self.partitions = partitions
        self.session = session
        self.session_id = session_id
        self.incremental = incremental


class FetchSessions:
    """The broker's cache of sessions."""

    def __init__(self, max_slots: int, rng: random.Random) -> None:
        self._max_slots = max_slots
        self._rng = rng
        self._sessions: dict[int, FetchSession] = {}
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def context(self, request: FetchRequest, by_id: bool, now_ms: int) -> FetchContext | ErrorCode:
        """The partitions that this request asks for; a session error is answered at the top level."""
        asked = [
            FetchPartition(_key(name, topic_id), index, leader_epoch, offset, last_epoch, max_bytes)
            for name, topic_id, partitions in request.topics
            for index, leader_epoch, offset, last_epoch, _, max_bytes in partitions
        ]
        if len(asked) > 1:
            # of a partition named twice the last counts, as in Kafka
            asked = list({(partition.topic, partition.index): partition for partition in asked}.values())
        session_id, epoch = request.session_id, request.session_epoch
        if epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            if session_id != NO_SESSION:
                self._sessions.pop(session_id, None)
            session = self._create(by_id, now_ms) if epoch == INITIAL_EPOCH and asked else None
            if session is None:
                return FetchContext(asked, None, NO_SESSION, incremental=False)
            for partition in asked:
                session.partitions[(partition.topic, partition.index)] = partition
            return FetchContext(asked, session, session.session_id, incremental=False)
        session = self._sessions.get(session_id)
        if session is None:
            return ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        if session.epoch != epoch:
            return ErrorCode.INVALID_FETCH_SESSION_EPOCH
        if session.by_id != by_id:
            return ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
        session.epoch = 1 if epoch == _MAX_EPOCH else epoch + 1
        del self._sessions[session_id]  # least recently used stands first
        self._sessions[session_id] = session
        session.used_at_ms = now_ms
        self._update(session, asked, request)
        return FetchContext(list(session.partitions.values()), session, session_id, incremental=True)

    def _update(self, session: FetchSession, asked: Sequence[FetchPartition], request: FetchRequest) -> None:
        for partition in asked:
            key = (partition.topic, partition.index)
            known = session.partitions.get(key)
            if known is None:
                session.partitions[key] = partition
            else:
                known.current_leader_epoch = partition.current_leader_epoch
                known.fetch_offset = partition.fetch_offset
                known.last_fetched_epoch = partition.last_fetched_epoch
                known.max_bytes = partition.max_bytes
        for name, topic_id, indexes in request.forgotten:
            for index in indexes:
                session.partitions.pop((_key(name, topic_id), index), None)

    def _create(self, by_id: bool, now_ms: int) -> FetchSession | None:
        if self._max_slots <= 0:
            return None
        if len(self._sessions) >= self._max_slots:
            oldest = next(iter(self._sessions.values()))
            if now_ms - oldest.used_at_ms < EVICT_AFTER_MS:
                return None
            del self._sessions[oldest.session_id]
            self.evictions += 1
        session_id = 0
        while session_id == 0 or session_id in self._sessions:
            session_id = self._rng.randrange(1, 2**31)
        session = FetchSession(session_id, by_id, now_ms)
        self._sessions[session_id] = session
        return session


def _key(name: str | None, topic_id: bytes | None) -> str | bytes:
    """Whichever of the two the request's version carries."""
    return topic_id if topic_id is not None else name or ""
