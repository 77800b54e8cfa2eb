"""A broker that acknowledges before the WAL write is issued, a planted bug for `weir verify`:
`python -m tests.long.verify_early_ack serve ...`. The write follows 50 ms later; kill -9 in between loses it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

from typing_extensions import Buffer

import broker.adapters
from broker.cli import main
from s3stream.ports import Done
from s3stream.wal.device_folder import FolderWalDevice

_LATE_S = 0.05


class AckBeforeWrite(FolderWalDevice):
    """The planted bug."""

    def write(self, number: int, offset: int, buffers: Sequence[Buffer], done: Done) -> None:
        loop = asyncio.get_running_loop()
        late = functools.partial(super().write, number, offset, buffers, lambda error: None)
        loop.call_later(_LATE_S, late)
        loop.call_soon(done, None)

    async def close(self) -> None:
        await asyncio.sleep(2 * _LATE_S)
        await super().close()


if __name__ == "__main__":
    broker.adapters.FolderWalDevice = AckBeforeWrite  # type: ignore[attr-defined]
    main()
