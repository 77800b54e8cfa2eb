"""A reader that fetches by topic id within an incremental fetch session (KIP-227, KIP-516)."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

from benchmarks.verify.history import History, Outcome, Partition, Read
from tests.simulation import outcomes, requests
from tests.simulation.client import AnswerLost, Client, NotSent
from tests.simulation.consumers import Reader, read_outcome
from tests.simulation.errors import SimulationFailure

_SESSION_LOST = (70, 71, 106)  # id not found, invalid epoch, topic id error: begin a new one


class SessionReader(Reader):
    """Sends only what changed since the fetch before, drops partitions from the session and takes them in again.
    `restart_share`: of its fetches, before which it forgets its session, as a client that was started anew."""

    def __init__(
        self,
        client: Client,
        rng: random.Random,
        history: History,
        topic: str,
        partitions: int,
        restart_share: float = 0.0,
    ) -> None:
        super().__init__(client, rng, history, topic, partitions)
        self._restart_share = restart_share
        self._topic_id: UUID | None = None
        self._session = (0, 0)
        self._in_session: dict[int, int] = {}  # partition -> the offset that the broker knows

    async def fetch(self, *, final: bool = False) -> None:
        """One Fetch; what it brought moves the positions."""
        await self.client.connect()
        if self._restart_share and self.rng.random() < self._restart_share:
            self._session = (0, 0)
        topic_id = self._topic_id = self._topic_id or await self._find_topic()
        wanted = {
            partition: offset
            for partition, offset in self.positions.items()
            if self.rng.random() < 0.95 or partition not in self._in_session
        }
        forgotten = [partition for partition in self._in_session if partition not in wanted]
        if self._session == (0, 0):
            forgotten, self._in_session = [], {}
        changed = [pair for pair in wanted.items() if self._in_session.get(pair[0]) != pair[1]]
        body = requests.fetch_by_id_body(
            topic_id,
            changed,
            max_wait_ms=self.rng.choice((0, 100, 500)),
            max_bytes=self.rng.choice((1_000, 30_000, 300_000)),
            session=self._session,
            forgotten=forgotten,
        )
        self._in_session = wanted
        invoked_s = asyncio.get_running_loop().time()
        try:
            answer = await self.client.request(requests.FETCH, body, requests.FETCH_BY_ID)
        except (NotSent, AnswerLost):
            self._session = (0, 0)  # whether the broker has seen the last epoch is unknown
            raise
        code = int(answer.error_code)
        if code in _SESSION_LOST:
            self._session = (0, 0)
            return
        if read_outcome(answer.error_code, Partition(self.topic, -1)) is not Outcome.OK:
            self._session = (0, 0)
            await asyncio.sleep(0.1)
            return
        session_id = int(answer.session_id)
        self._session = (session_id, self._session[1] + 1) if session_id else (0, 0)
        for topic in answer.responses:
            if topic.topic_id != topic_id:
                raise SimulationFailure(f"a fetch of topic {topic_id} was answered with topic {topic.topic_id}")
            for part in topic.partitions:
                self._take(part, wanted, invoked_s)
        await self.find_positions()

    def _take(self, part: object, wanted: dict[int, int], invoked_s: float) -> None:
        index = int(part.partition_index)  # type: ignore[attr-defined]
        if index not in wanted:
            raise SimulationFailure(f"partition {index} was not asked for and came")
        read = Read(client=self.client.name, partition=Partition(self.topic, index), offset=wanted[index])
        self.history.invoke(read, invoked_s)
        self.record(read, part, asyncio.get_running_loop().time())

    async def _find_topic(self) -> UUID:
        while True:
            answer = await self.client.request(requests.METADATA, requests.metadata_body([self.topic]))
            topic = answer.topics[0]
            if int(topic.error_code) == outcomes.NONE and topic.topic_id is not None:
                return UUID(str(topic.topic_id))
            await asyncio.sleep(0.2)
