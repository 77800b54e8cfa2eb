"""Incremental fetch sessions (KIP-227): the partitions of a consumer are named once, then only changes travel.

A session lives on the broker, not on a connection. Bounded: `max.incremental.fetch.session.cache.slots`; when full, a
session unused for `fetch.session.evict.after.ms` gives its place up, otherwise the newcomer is answered without a
session (id 0) and goes on with full requests, as in Kafka's FetchSessionCache.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.fetching.full import BY_ID_FROM_VERSION, topic_key
from broker.fetching.standing import NO_SESSION, FetchPartition, StandingFetch, response_row
from protocol.errors import ErrorCode
from protocol.fetch import FetchRequest, ResponsePartition, ResponseTopic, unpack_partition

if TYPE_CHECKING:
    from broker.fetching.pass_over import PartitionAnswer

INITIAL_EPOCH = 0
FINAL_EPOCH = -1
_MAX_EPOCH = 2**31 - 1

PartitionKey = tuple[str | bytes, int]
"""(topic name or 16-byte topic id, partition index)"""


class FetchSession(StandingFetch):
    """The partitions of one consumer. `unsettled` has the order in which they are next served."""

    __slots__ = ("_session_id", "by_id", "epoch", "partitions", "unsettled", "used_at_ms")

    def __init__(self, session_id: int, by_id: bool, now_ms: int) -> None:
        super().__init__()
        self._session_id = session_id
        self.epoch = 1
        self.by_id = by_id
        self.used_at_ms = now_ms
        self.partitions: dict[PartitionKey, FetchPartition] = {}
        self.unsettled: dict[PartitionKey, FetchPartition] = {}

    @property
    def session_id(self) -> int:
        return self._session_id

    def update(self, asked: Sequence[FetchPartition], forgotten: Sequence[PartitionKey]) -> None:
        """What a request adds to the session, changes in it and takes from it."""
        for partition in asked:
            key = (partition.topic, partition.index)
            known = self.partitions.get(key)
            if known is None:
                known = self.partitions[key] = partition
            else:
                known.current_leader_epoch = partition.current_leader_epoch
                known.fetch_offset = partition.fetch_offset
                known.last_fetched_epoch = partition.last_fetched_epoch
                known.max_bytes = partition.max_bytes
            self.start_moved(known)
        for key in forgotten:
            known = self.partitions.pop(key, None)
            if known is not None:
                self.unsettled.pop(key, None)
                self.unwatch(known)

    def to_look_at(self, *, incremental: bool) -> list[FetchPartition]:
        return list((self.unsettled if incremental else self.partitions).values())

    def settle(self, answer: PartitionAnswer) -> None:
        partition, log = answer.partition, answer.log
        assert log is not None
        told = partition.told_high_watermark, partition.told_start_offset
        if told == (answer.high_watermark, answer.start_offset) and not self.closed:
            partition.settled = True
            self.unsettled.pop((partition.topic, partition.index), None)
            self.watch(partition, log)

    def start_moved(self, partition: FetchPartition) -> None:
        super().start_moved(partition)
        self.unsettled[partition.topic, partition.index] = partition

    def answer(
        self, answers: Sequence[PartitionAnswer], version: int, *, incremental: bool, read_committed: bool
    ) -> list[ResponseTopic]:
        topics: list[ResponseTopic] = []
        rows: list[ResponsePartition] = []
        current: object = None
        for answer in answers:
            partition = answer.partition
            if self._has_news(answer) or not incremental:
                if partition.topic != current:
                    current = partition.topic
                    rows = []
                    key = partition.topic
                    topics.append((None, key, rows) if isinstance(key, bytes) else (key, None, rows))
                rows.append(response_row(answer, read_committed=read_committed))
            if answer.size:
                self.serve_last(partition)
        return topics

    def _has_news(self, answer: PartitionAnswer) -> bool:
        """Whether the consumer must hear of it; it is taken as told then."""
        partition = answer.partition
        if not (
            answer.size > 0
            or answer.error
            or answer.diverging is not None
            or answer.high_watermark != partition.told_high_watermark
            or answer.start_offset != partition.told_start_offset
        ):
            return False
        # an error is told again each time: the consumer must not miss its end either
        partition.told_high_watermark = -1 if answer.error else answer.high_watermark
        partition.told_start_offset = answer.start_offset
        return True

    def serve_last(self, partition: FetchPartition) -> None:
        """A partition that just got data goes to the end, so that a small max_bytes starves none."""
        key = (partition.topic, partition.index)
        if self.unsettled.pop(key, None) is not None:
            self.unsettled[key] = partition

    def close(self) -> None:
        super().close()
        for partition in self.partitions.values():
            self.unwatch(partition)


class FetchSessions:
    """The broker's cache of sessions."""

    def __init__(self, max_slots: int, evict_after_ms: int, rng: random.Random) -> None:
        self._max_slots = max_slots
        self._evict_after_ms = evict_after_ms
        self._rng = rng
        self._sessions: dict[int, FetchSession] = {}
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def session_of(self, request: FetchRequest, version: int, now_ms: int) -> FetchSession | ErrorCode | None:
        """The session that this request opens or goes on with; None for a request without; a session error is answered
        at the top level."""
        session_id, epoch = request.session_id, request.session_epoch
        by_id = version >= BY_ID_FROM_VERSION
        if epoch in (FINAL_EPOCH, INITIAL_EPOCH):
            former = self._sessions.pop(session_id, None) if session_id != NO_SESSION else None
            if former is not None:
                former.close()
            names_any = any(rows for _, _, rows in request.topics)
            session = self._create(by_id, now_ms) if epoch == INITIAL_EPOCH and names_any else None
            if session is not None:
                session.update(_asked(request, version), ())
            return session
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
        forgotten = [
            (topic_key(name, topic_id), index) for name, topic_id, indexes in request.forgotten for index in indexes
        ]
        session.update(_asked(request, version), forgotten)
        return session

    def _create(self, by_id: bool, now_ms: int) -> FetchSession | None:
        if self._max_slots <= 0:
            return None
        if len(self._sessions) >= self._max_slots:
            oldest = next(iter(self._sessions.values()))
            if now_ms - oldest.used_at_ms < self._evict_after_ms:
                return None
            del self._sessions[oldest.session_id]
            oldest.close()
            self.evictions += 1
        session_id = 0
        while session_id == 0 or session_id in self._sessions:
            session_id = self._rng.randrange(1, 2**31)
        session = FetchSession(session_id, by_id, now_ms)
        self._sessions[session_id] = session
        return session


def _asked(request: FetchRequest, version: int) -> list[FetchPartition]:
    asked = []
    for name, topic_id, rows in request.topics:
        key = topic_key(name, topic_id)
        for row in rows:
            index, leader_epoch, offset, last_epoch, _, max_bytes = unpack_partition(version, row)
            asked.append(FetchPartition(key, index, leader_epoch, offset, last_epoch, max_bytes))
    return asked
