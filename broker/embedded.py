"""A broker inside a Python program that blocks: `BrokerThread`. (On a running loop use `broker.app.Broker`.)"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import uvloop

from broker.app import Broker
from broker.settings import Settings

_START_TIMEOUT_S = 30.0

SMALL = {
    "data.dir": "memory:",
    "listeners": "PLAINTEXT://127.0.0.1:0",
    "http.port": -1,
    "group.initial.rebalance.delay.ms": 0,
    "offsets.topic.num.partitions": 4,
    "wal.segment.bytes": 20 << 20,
    "wal.capacity.bytes": 80 << 20,
    "cache.tail.bytes": 64 << 20,
    "upload.backlog.max.bytes": 48 << 20,
    "cache.chunk.bytes": 1 << 20,
    "cache.block.bytes": 16 << 20,
}
"""Settings for tests: nothing on disk, any free port, little memory, groups that do not wait for latecomers."""


class BrokerThread:
    """A broker on a loop of its own in a thread, for programs that block (tests with librdkafka or kafka-python)."""

    def __init__(self, settings: Settings | Mapping[str, object] | None = None) -> None:
        self._settings = settings
        self._thread = threading.Thread(target=self._run, name="weir broker", daemon=True)
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self.bootstrap = ""

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT_S):
            raise TimeoutError(f"the broker did not start within {_START_TIMEOUT_S} s")
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_TIMEOUT_S)
        if self._thread.is_alive():
            raise TimeoutError(f"the broker did not stop within {_START_TIMEOUT_S} s")
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with Broker(self._settings) as broker:
            self.bootstrap = broker.bootstrap
            self._started.set()
            await self._stop.wait()
