"""Ranged reads of objects: retried for a bounded time, counted."""

from __future__ import annotations

import asyncio
import random

from s3stream.backoff import Backoff
from s3stream.errors import Corrupt, Invalid, NotFound, OutcomeUnknown, PastEnd, Retry
from s3stream.metrics import EngineMetrics
from s3stream.ports import ObjectStore
from s3stream.settings import EngineSettings


class StoreReads:
    """GETs for the cold lane. NotFound passes through at once; Retry does when the time is up. An object that is
    shorter than its rows say is Corrupt. A store that refuses (credentials, bucket) is Retry: an operator mends that,
    and a caller that gave up for good would stop uploads or deny that the data is there."""

    def __init__(
        self, store: ObjectStore, settings: EngineSettings, rng: random.Random, metrics: EngineMetrics
    ) -> None:
        self._store, self._settings, self._rng, self._metrics = store, settings, rng, metrics

    async def read_range(self, key: str, start: int, end: int) -> memoryview:
        """Bytes `[start, end)` of the object, all of them."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._settings.cold_read_timeout_ms / 1000
        backoff = Backoff(self._settings.retry_base_ms, self._settings.retry_max_ms, self._rng)
        while True:
            try:
                data = await self._store.get(key, start, end)
            except (Retry, OutcomeUnknown) as error:
                delay_s = backoff.next_delay_s(error)
                if loop.time() + delay_s >= deadline_s:
                    raise Retry(f"the store did not answer in time: {error}") from error
                self._metrics.read_retries += 1
                await asyncio.sleep(delay_s)
                continue
            except NotFound:
                raise
            except PastEnd as error:
                raise Corrupt(f"object {key} is shorter than its rows say: {error}") from error
            except Invalid as error:
                self._metrics.read_retries += 1
                raise Retry(f"the store refuses a read: {error}", self._settings.retry_max_ms) from error
            if len(data) != end - start:
                raise Corrupt(f"object {key} [{start}, {end}): {len(data)} bytes came")
            self._metrics.store_reads += 1
            self._metrics.store_read_bytes += len(data)
            return data
