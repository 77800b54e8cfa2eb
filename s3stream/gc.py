"""Removing dead objects from the store: destroyed ones after their grace, prepared ones that were never committed.

Order: announced in the metadata, removed from the store, forgotten in the metadata. Dying in between repeats a step;
a row is forgotten only after the store has confirmed the removal, so nothing is left behind unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from s3stream.errors import Invalid, OutcomeUnknown, Retry
from s3stream.meta.rows import DoomedObject
from s3stream.meta.store import MetaStore
from s3stream.metrics import EngineMetrics
from s3stream.object_format import object_prefix
from s3stream.ports import Clock, ObjectStore
from s3stream.settings import EngineSettings

_log = logging.getLogger(__name__)


class GarbageDuty:
    """Works through what is due in batches; a failure waits for the next round."""

    def __init__(
        self,
        meta: MetaStore,
        store: ObjectStore,
        clock: Clock,
        settings: EngineSettings,
        metrics: EngineMetrics,
        in_use: Callable[[], Sequence[int]],
    ) -> None:
        """`in_use`: the objects that this broker is uploading now."""
        self._meta, self._store, self._clock = meta, store, clock
        self._settings, self._metrics, self._in_use = settings, metrics, in_use

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._settings.gc_interval_ms / 1000)
            try:
                await self.run_once()
            except (Retry, OutcomeUnknown, Invalid) as error:
                # Invalid: the store refuses deletes (rights); an operator can mend that, the objects wait.
                self._metrics.gc_failures += 1
                _log.warning("removing dead objects waits for its next round: %s", error)

    async def run_once(self) -> int:
        """Remove everything that is due now; the number of objects."""
        limit = self._settings.gc_batch
        while len(await self._meta.drop_expired_prepared(self._clock.now_ms(), limit, self._in_use())) == limit:
            pass
        removed = 0
        while True:
            due_ms = self._clock.now_ms() - self._settings.gc_grace_ms
            doomed = await self._meta.destroyed_objects(due_ms, limit)
            if doomed:
                removed += await self._remove(doomed)
            if len(doomed) < limit:
                return removed

    async def _remove(self, doomed: Sequence[DoomedObject]) -> int:
        allowed = await self._meta.mark_deleting([item.object_id for item in doomed])
        by_id = {item.object_id: item for item in doomed}
        keys: list[str] = []
        for object_id in allowed:
            key = by_id[object_id].key
            keys.extend([key] if key else await self._keys_of_uncommitted(object_id))
        if keys:
            await self._store.delete(keys)
        await self._meta.forget_objects(allowed)
        self._metrics.gc_objects_deleted += len(allowed)
        return len(allowed)

    async def _keys_of_uncommitted(self, object_id: int) -> list[str]:
        """An upload whose commit never came: its key has a random part that nobody wrote down."""
        prefix = object_prefix(self._settings.cluster_id, object_id)
        return [info.key async for page in self._store.list(prefix) for info in page]
