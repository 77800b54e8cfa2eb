"""The outside world of one broker: disk, store, database, clock, chance. Chosen here and nowhere else.

The simulation builds an `Adapters` of its own; everything behind it is unmodified.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from broker.settings import Settings
from broker.store_check import StoreCheck, passed_before
from s3stream.durable_folder import make_folder_durable
from s3stream.meta.sqlite import open_sqlite
from s3stream.ports import Clock, Database, ObjectStore, WalDevice
from s3stream.stores import StoreSettings, open_store, place_of
from s3stream.wal.device_folder import FolderWalDevice
from s3stream.wal.device_memory import MemoryWalDevice

MEMORY = "memory:"
_PROBE_TIME_LIMITS = 3
"""How often the time limit of one request a whole probe may take: some twenty small requests."""


class SystemClock:
    """The machine's wall clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Adapters:
    """What a broker runs on. `incarnation` names this start of the process; `store_check` is there when the store was
    opened without a question and must be asked in the background."""

    clock: Clock
    rng: random.Random
    incarnation: str
    wal_device: WalDevice
    store: ObjectStore
    database: Database
    store_check: StoreCheck | None = None

    async def close(self) -> None:
        """The WAL closes its device; here for a start that failed before there was one."""
        await self.wal_device.close()
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
        make_folder_durable(data_dir)
    wal = settings.wal
    device: WalDevice
    if in_memory:
        device = MemoryWalDevice(wal.segment_size_bytes)
    else:
        device = FolderWalDevice(Path(wal.directory) if wal.directory else data_dir / "wal", wal.segment_size_bytes)
    database = await open_sqlite(":memory:" if in_memory else data_dir / "metadata.db")
    try:
        store, store_check = await _open_usable_store(settings, rng)
    except BaseException:
        await database.close()
        await device.close()
        raise
    return Adapters(SystemClock(), rng, f"{rng.getrandbits(64):016x}", device, store, database, store_check)


async def _open_usable_store(settings: Settings, rng: random.Random) -> tuple[ObjectStore, StoreCheck | None]:
    """The store, and a bucket only after it has shown that it can carry what is promised. Invalid with the reason if it
    cannot, Retry if it does not answer in time. A bucket that this data folder knows is opened without a question; the
    check that comes with it is to be run in the background."""
    url, options = store_url(settings), store_settings(settings)
    if not url.startswith("s3:"):
        return await open_store(url, options), None  # ours, and tested: memory and folders
    in_memory = settings.broker.data_dir == MEMORY
    data_dir = Path(settings.broker.data_dir)
    place = place_of(url, options)
    known = not in_memory and passed_before(data_dir, place)
    store = await open_store(url, options, ask=not known)
    limit_s = _PROBE_TIME_LIMITS * settings.store.request_timeout_ms / 1000
    check = StoreCheck(store, rng, place, limit_s, None if in_memory else data_dir)
    if known:
        return store, check
    try:
        await check.require()
    except BaseException:
        await store.close()
        raise
    return store, None


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
