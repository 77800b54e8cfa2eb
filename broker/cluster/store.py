"""`ClusterStore`: the broker's metadata commands on any `Database`, repeated until their outcome is known.

A command is idempotent, so an unknown outcome is simply repeated. Retry is repeated too, with doubling pauses, until
`attempts` are used up; then the last error reaches the caller, who answers with a retriable code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from broker.cluster import commands
from broker.cluster.migrations import MIGRATIONS, PACKAGE
from broker.cluster.rows import ClusterRows, ConfigDelta, NewTopic, StoredTopic
from s3stream.errors import OutcomeUnknown, Retry
from s3stream.ports import Database

T = TypeVar("T")


class ClusterStore:
    """The docstrings are those of the commands; each method is one transaction, repeated as the module says."""

    def __init__(self, db: Database, rng: Random, *, attempts: int = 8, pause_ms: int = 20) -> None:
        self.db = db
        self._rng = rng
        self._attempts = attempts
        self._pause_ms = pause_ms

    async def migrate(self) -> None:
        """Bring the broker's own tables up to this code's schema; after `MetaStore.migrate`."""
        await self.db.migrate(PACKAGE, MIGRATIONS)

    async def ensure_cluster_id(self, proposed: str, now_ms: int) -> str:
        return await self._run(commands.ensure_cluster_id, proposed, now_ms)

    async def load_cluster(self) -> ClusterRows:
        return await self._run(commands.load_cluster)

    async def create_topics(self, topics: Sequence[NewTopic], now_ms: int) -> tuple[int, list[StoredTopic]]:
        return await self._run(commands.create_topics, topics, now_ms)

    async def delete_topics(self, topic_ids: Sequence[str], now_ms: int) -> tuple[int, list[int]]:
        return await self._run(commands.delete_topics, topic_ids, now_ms)

    async def create_partitions(self, topic_id: str, count: int) -> tuple[int, StoredTopic | None]:
        return await self._run(commands.create_partitions, topic_id, count)

    async def announce_leaders(self, leader_id: int, epochs: Mapping[int, int]) -> int:
        return await self._run(commands.announce_leaders, leader_id, epochs)

    async def alter_configs(self, deltas: Sequence[ConfigDelta]) -> int:
        return await self._run(commands.alter_configs, deltas)

    async def allocate_producer_ids(self, count: int) -> tuple[int, int]:
        return await self._run(commands.allocate_producer_ids, count)

    async def _run(self, command: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        attempt = 0
        while True:
            try:
                return await self.db.transact(command, *args)
            except (Retry, OutcomeUnknown):
                attempt += 1
                if attempt >= self._attempts:
                    raise
                pause_ms = self._pause_ms * (1 << attempt) * self._rng.uniform(0.5, 1.0)
                await asyncio.sleep(pause_ms / 1000)
