"""The outside world of one broker: disk, store, database, clock, chance. Chosen here and nowhere else.

The simulation builds an `Adapters` of its own; everything behind it is unmodified.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from broker.settings import Settings
from s3stream.errors import OutcomeUnknown, Retry, StreamError
from s3stream.meta.sqlite import open_sqlite
from s3stream.ports import Clock, Database, ObjectStore, WalDevice
from s3stream.stores import StoreSettings, open_store
from s3stream.stores.probe import ProbeReport, probe_store
from s3stream.wal.device_folder import FolderWalDevice
from s3stream.wal.device_memory import MemoryWalDevice

MEMORY = "memory:"
_PROBE_ATTEMPTS = 3
_PROBE_PAUSE_S = 0.5
_PROBE_TIME_LIMITS = 3
"""How often the time limit of one request a whole probe may take: some twenty small requests."""


class SystemClock:
    """The machine's wall clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Adapters:
    """What a broker runs on. `incarnation` names this start of the process."""

    clock: Clock
    rng: random.Random
    incarnation: str
    wal_device: WalDevice
    store: ObjectStore
    database: Database

    async def close(self) -> None:
        """The WAL device is closed by the WAL."""
        await self.store.close()
        await self.database.close()


OpenAdapters = Callable[[Settings], Awaitable[Adapters]]


async def open_adapters(settings: Settings) -> Adapters:
    """The real ones: SQLite and WAL files in `data.dir`, the store of `store.url`; `data.dir=memory:` keeps it all in
    memory."""
    rng = random.SystemRandom()
    in_memory = settings.broker.data_dir == MEMORY
    data_dir = Path(settings.broker.data_dir)
    if not in_memory:
        data_dir.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything is served
    wal = settings.wal
    device: WalDevice
    if in_memory:
        device = MemoryWalDevice(wal.segment_size_bytes)
    else:
        device = FolderWalDevice(Path(wal.directory) if wal.directory else data_dir / "wal", wal.segment_size_bytes)
    database = await open_sqlite(":memory:" if in_memory else data_dir / "metadata.db")
    try:
        store = await _open_usable_store(settings, rng)
    except BaseException:
        await database.close()
        await device.close()
        raise
    return Adapters(SystemClock(), rng, f"{rng.getrandbits(64):016x}", device, store, database)


async def _open_usable_store(settings: Settings, rng: random.Random) -> ObjectStore:
    """The store, and a bucket only after it has shown that it can carry what is promised. Invalid with the reason if it
    cannot, Retry if it does not answer in time."""
    url = store_url(settings)
    store = await open_store(url, store_settings(settings))
    if not url.startswith("s3:"):
        return store  # ours, and tested: memory and folders
    try:
        report = await _probe(store, rng, url, _PROBE_TIME_LIMITS * settings.store.request_timeout_ms / 1000)
        report.require(put_if_absent=False)
    except BaseException:
        await store.close()
        raise
    return store


async def _probe(store: ObjectStore, rng: random.Random, url: str, limit_s: float) -> ProbeReport:
    """Asked again when the store was merely busy."""
    last: StreamError = Retry("no answer")
    try:
        async with asyncio.timeout(limit_s):
            for attempt in range(_PROBE_ATTEMPTS):
                await asyncio.sleep(attempt * _PROBE_PAUSE_S)
                try:
                    return await probe_store(store, f"{rng.getrandbits(64):016x}")
                except (Retry, OutcomeUnknown) as error:
                    last = error
    except TimeoutError as error:
        raise Retry(f"the object store {url} stopped answering at its probe, within {limit_s:g} s: {last}") from error
    raise Retry(f"the object store {url} is not fit to start on: {last}") from last


def store_url(settings: Settings) -> str:
    """Where the objects are: `store.url`, else beside the other data."""
    if settings.store.url:
        return settings.store.url
    data_dir = settings.broker.data_dir
    return MEMORY if data_dir == MEMORY else (Path(data_dir) / "objects").absolute().as_uri()


def store_settings(settings: Settings) -> StoreSettings:
    """How to reach them."""
    store = settings.store
    return StoreSettings(
        endpoint=store.s3_endpoint,
        region=store.s3_region,
        access_key_id=store.s3_access_key_id,
        secret_access_key=store.s3_secret_access_key,
        session_token=store.s3_session_token,
        path_style=store.s3_path_style,
        request_timeout_ms=store.request_timeout_ms,
        inflight_bytes=store.inflight_bytes,
    )
