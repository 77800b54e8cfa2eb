"""Producer ids for InitProducerId, taken in blocks; a whole spare block is always held.

The spare is what lets new producers start while the metadata cannot be reached. Ids of a block that a crash cuts off
are never used; they are 63 bits wide.
"""

from __future__ import annotations

import asyncio

from broker.cluster.store import ClusterStore
from s3stream.errors import OutcomeUnknown, Retry
from s3stream.supervisor import Supervisor

BLOCK_SIZE = 1000


class ProducerIds:
    """Hands out ids that no producer of this cluster ever had."""

    def __init__(self, store: ClusterStore, supervisor: Supervisor, block_size: int = BLOCK_SIZE) -> None:
        self._store = store
        self._supervisor = supervisor
        self._block_size = block_size
        self._current = iter(range(0))
        self._spare: range | None = None
        self._fetching = asyncio.Lock()

    async def start(self) -> None:
        """Fetch the first block and the spare. Raises Retry or OutcomeUnknown when the metadata is out of reach."""
        self._current = iter(await self._store.allocate_producer_ids(self._block_size))
        await self._fetch_spare()

    async def take(self) -> int:
        """A fresh id; waits only when both blocks are used up. Raises Retry or OutcomeUnknown then."""
        while True:
            found = next(self._current, None)
            if found is not None:
                return found
            if self._spare is None:
                await self._fetch_spare()
                continue
            self._current, self._spare = iter(self._spare), None
            self._supervisor.spawn("producer ids", self._refill())

    async def _fetch_spare(self) -> None:
        async with self._fetching:
            if self._spare is None:
                self._spare = await self._store.allocate_producer_ids(self._block_size)

    async def _refill(self) -> None:
        pause_s = 0.1
        while self._spare is None:
            try:
                await self._fetch_spare()
            except (Retry, OutcomeUnknown):
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)
