"""A member of a consumer group, classic protocol: joins, shares out partitions, reads, commits, stalls, leaves.

What it was assigned, what it committed and what it found committed goes into the history. After a commit of unknown
outcome it comes back under a new member id: a commit that is still on its way must then be refused.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.verify.history import Assigned, History, OffsetCommit, OffsetRead, Outcome, Partition
from tests.simulation import outcomes, requests
from tests.simulation.client import AnswerLost, Client, NotSent
from tests.simulation.consumers import Reader
from tests.simulation.errors import SimulationFailure

_SESSION_TIMEOUT_MS = 6_000
_REBALANCE_TIMEOUT_MS = 3_000

_UNKNOWN_MEMBER_ID, _ILLEGAL_GENERATION, _REBALANCE_IN_PROGRESS = 25, 22, 27
_MEMBER_ID_REQUIRED, _FENCED_INSTANCE_ID = 79, 82
_TRY_AGAIN = (14, 16)  # COORDINATOR_LOAD_IN_PROGRESS, NOT_COORDINATOR
_MAYBE_APPLIED = (7, 15)  # REQUEST_TIMED_OUT; COORDINATOR_NOT_AVAILABLE also hides a write that may still be made
_FENCED = (_UNKNOWN_MEMBER_ID, _ILLEGAL_GENERATION, _FENCED_INSTANCE_ID)


class _Rejoin(Exception):
    """The member has to join again; `fresh`: under a new member id."""

    def __init__(self, *, fresh: bool) -> None:
        super().__init__()
        self.fresh = fresh


@dataclass(frozen=True)
class GroupSettings:
    """`instance`: the id of a static member. `commits_wanted`: end after so many, if it is not 0."""

    group: str
    topic: str
    partitions: int
    instance: str | None = None
    commits_wanted: int = 0


class GroupMember:
    """Runs one member until a time; `commits` counts the acknowledged ones."""

    def __init__(self, client: Client, rng: random.Random, history: History, settings: GroupSettings) -> None:
        self.client = client
        self.rng = rng
        self.history = history
        self.settings = settings
        self.reader = Reader(client, rng, history, settings.topic, settings.partitions)
        self.commits = 0
        self._member = ""
        self._generation = -1

    async def run(self, until_s: float) -> None:
        while not self._over(until_s):
            try:
                await self._find_coordinator()
                partitions = await self._join()
                await self._take_over(partitions)
                await self._work(until_s)
            except _Rejoin as again:
                if again.fresh:
                    self._member = ""
                await asyncio.sleep(self.rng.uniform(0, 0.3))
            except (NotSent, AnswerLost):
                self.client.abort()
                self._member = ""
                await asyncio.sleep(self.rng.uniform(0.1, 1))

    def _over(self, until_s: float) -> bool:
        wanted = self.settings.commits_wanted
        return asyncio.get_running_loop().time() >= until_s or 0 < wanted <= self.commits

    async def _find_coordinator(self) -> None:
        body = {"key_type": 0, "coordinator_keys": [self.settings.group]}
        while True:
            answer = await self.client.request(requests.FIND_COORDINATOR, body)
            code = int(answer.coordinators[0].error_code)
            if code == outcomes.NONE:
                return
            if code not in (*_TRY_AGAIN, *_MAYBE_APPLIED):
                raise SimulationFailure(f"FindCoordinator was answered with error {code}")
            await asyncio.sleep(0.3)

    async def _join(self) -> list[int]:
        """Join and sync; the partitions that this member owns in the generation that came of it."""
        settings = self.settings
        body = requests.join_group_body(
            settings.group,
            settings.topic,
            self._member,
            settings.instance,
            _SESSION_TIMEOUT_MS,
            _REBALANCE_TIMEOUT_MS,
        )
        answer = await self.client.request(requests.JOIN_GROUP, body)
        code = int(answer.error_code)
        if code == _MEMBER_ID_REQUIRED:
            self._member = str(answer.member_id)
            raise _Rejoin(fresh=False)
        await self._check(code, "JoinGroup")
        self._member, self._generation = str(answer.member_id), int(answer.generation_id)
        shares = {}
        if answer.leader == answer.member_id:
            shares = self._share_out([str(each.member_id) for each in answer.members])
        return await self._sync(shares)

    def _share_out(self, members: list[str]) -> dict[str, bytes]:
        topic, count = self.settings.topic, self.settings.partitions
        members.sort()
        return {
            member: requests.assignment(topic, range(place, count, len(members)))
            for place, member in enumerate(members)
        }

    async def _sync(self, shares: dict[str, bytes]) -> list[int]:
        settings, now = self.settings, asyncio.get_running_loop().time
        asked_s = now()
        answer = await self.client.request(
            requests.SYNC_GROUP,
            requests.sync_group_body(settings.group, self._generation, self._member, settings.instance, shares),
        )
        await self._check(int(answer.error_code), "SyncGroup")
        partitions = requests.assigned_partitions(bytes(answer.assignment))
        for assigned in self._operations(Assigned, partitions):
            self.history.invoke(assigned, asked_s)
            self.history.end(assigned, Outcome.OK, now())
        return partitions

    def _operations(self, kind: type[Any], partitions: Iterable[int], **fields: Any) -> list[Any]:
        return [
            kind(
                client=self.client.name,
                partition=Partition(self.settings.topic, partition),
                group=self.settings.group,
                generation=self._generation,
                member=self._member,
                instance=self.settings.instance or "",
                **fields,
            )
            for partition in partitions
        ]

    async def _take_over(self, partitions: list[int]) -> None:
        """Go on where the group has committed."""
        self.reader.positions = {}
        committed = await self.read_committed(partitions) if partitions else {}
        self.reader.positions = {partition: max(0, offset) for partition, offset in committed.items()}

    async def read_committed(self, partitions: list[int]) -> dict[int, int]:
        """OffsetFetch; -1 for none."""
        now = asyncio.get_running_loop().time
        await self.client.connect()
        reads: list[OffsetRead] = self._operations(OffsetRead, partitions)
        for read in reads:
            self.history.invoke(read, now())
        body = requests.offset_fetch_body(self.settings.group, self.settings.topic, partitions)
        answer = (await self.client.request(requests.OFFSET_FETCH, body)).groups[0]
        await self._check(int(answer.error_code), "OffsetFetch")
        found = {int(part.partition_index): part for part in answer.topics[0].partitions}
        for read in reads:
            part = found[read.partition.index]
            await self._check(int(part.error_code), "OffsetFetch")
            read.offset = int(part.committed_offset)
            self.history.end(read, Outcome.OK, now())
        return {read.partition.index: read.offset for read in reads}

    async def _work(self, until_s: float) -> None:
        """Read and commit until something ends the membership; raises _Rejoin."""
        loop = asyncio.get_running_loop()
        beat_s = loop.time()
        while not self._over(until_s):
            if self.reader.positions:
                await self.reader.fetch()
                await self._commit()
            if loop.time() - beat_s >= 1:
                beat_s = loop.time()
                await self._heartbeat()
            fate = self.rng.random()
            if fate < 0.02:
                await self._leave()
            if fate < 0.04:  # so long that the others may take its partitions; it goes on as if nothing was
                await asyncio.sleep(self.rng.uniform(1, 1.5 * _SESSION_TIMEOUT_MS / 1000))
            await asyncio.sleep(self.rng.uniform(0.2, 1))

    async def _commit(self) -> None:
        settings, now = self.settings, asyncio.get_running_loop().time
        await self.client.connect()
        offsets = dict(self.reader.positions)
        commits: list[OffsetCommit] = []
        for partition, offset in offsets.items():
            commits += self._operations(OffsetCommit, [partition], offset=offset)
        for commit in commits:
            self.history.invoke(commit, now())
        try:
            answer = await self.client.request(
                requests.OFFSET_COMMIT,
                requests.offset_commit_body(
                    settings.group, self._generation, self._member, settings.instance, settings.topic, offsets
                ),
            )
        except AnswerLost as error:
            for commit in commits:
                self.history.end(commit, Outcome.UNKNOWN, now(), str(error))
            raise
        codes = {int(part.partition_index): int(part.error_code) for part in answer.topics[0].partitions}
        for commit in commits:
            code = codes[commit.partition.index]
            self.history.end(commit, _outcome(code), now(), str(code))
            self.commits += code == outcomes.NONE
        for code in codes.values():
            if code != _REBALANCE_IN_PROGRESS:
                await self._check(code, "OffsetCommit")

    async def _heartbeat(self) -> None:
        body = requests.heartbeat_body(self.settings.group, self._generation, self._member, self.settings.instance)
        answer = await self.client.request(requests.HEARTBEAT, body)
        await self._check(int(answer.error_code), "Heartbeat")

    async def _leave(self) -> None:
        body = requests.leave_group_body(self.settings.group, self._member, self.settings.instance)
        answer = await self.client.request(requests.LEAVE_GROUP, body)
        await self._check(int(answer.error_code), "LeaveGroup")
        raise _Rejoin(fresh=True)

    async def _check(self, code: int, what: str) -> None:
        """Return for no error, else raise what is to be done about it."""
        if code == outcomes.NONE:
            return
        if code == _REBALANCE_IN_PROGRESS:
            raise _Rejoin(fresh=False)
        if code in _FENCED or code in _MAYBE_APPLIED:
            raise _Rejoin(fresh=True)
        if code not in _TRY_AGAIN:
            raise SimulationFailure(f"{what} was answered with error {code}")
        await asyncio.sleep(0.2)
        raise _Rejoin(fresh=False)


def _outcome(code: int) -> Outcome:
    if code == outcomes.NONE:
        return Outcome.OK
    return Outcome.UNKNOWN if code in _MAYBE_APPLIED else Outcome.FAIL
