"""`python storeless_broker.py PORT`: Weir without disk and store, for `cost_model`. Whose Python runs it, that Weir."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

from typing_extensions import Buffer

from broker.adapters import Adapters, SystemClock
from broker.cli.serve import run_broker
from broker.settings import Settings, settings_of
from s3stream.meta.sqlite import open_sqlite
from s3stream.stores.memory import MemoryObjectStore
from s3stream.wal.device_memory import MemoryWalDevice

UPLOAD_AFTER_S = 1.5
UPLOAD_BYTES = 32 << 20
"""An upload starts when so much waits (the default), or so long after the first record that waits."""
_SETTINGS = {
    "data.dir": "memory:",
    "http.port": -1,
    "upload.interval.ms": int(UPLOAD_AFTER_S * 1000),
    "upload.size.bytes": UPLOAD_BYTES,
}


class NoStore(MemoryObjectStore):
    """Takes objects and keeps their names."""

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        await super().put(key, (), if_absent=if_absent)


async def _adapters(settings: Settings) -> Adapters:
    rng = random.SystemRandom()
    device = MemoryWalDevice(settings.wal.segment_size_bytes)
    return Adapters(SystemClock(), rng, "storeless", device, NoStore(), await open_sqlite(":memory:"))


if __name__ == "__main__":
    listeners = f"PLAINTEXT://127.0.0.1:{sys.argv[1]}"
    sys.exit(run_broker(settings_of({**_SETTINGS, "listeners": listeners}), _adapters))
