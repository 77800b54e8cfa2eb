"""`weir serve`: one broker as a process, until SIGINT or SIGTERM (it uploads first) or until it can promise no more.

Exit codes: 0 after a graceful stop, 1 when the broker failed or could not start, 2 for settings that cannot be used.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal

import uvloop

from broker.adapters import OpenAdapters, open_adapters
from broker.app import Broker
from broker.cli.output import fail
from broker.logging import configure
from broker.settings import Settings
from protocol.messages import load_newest
from s3stream.errors import StreamError

_log = logging.getLogger("weir")

_CODEC_PAUSE_S = 0.01

GC_GENERATION_2_THRESHOLD = 200
"""What is alive after the start is frozen; full collections of the rest stay rare."""


def run_broker(settings: Settings, adapters: OpenAdapters = open_adapters) -> int:
    """Serve until told to stop; the exit code."""
    configure(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, adapters))


async def _serve(settings: Settings, adapters: OpenAdapters) -> int:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    broker = Broker(settings, adapters=adapters)
    try:
        await broker.start()
    except (StreamError, OSError) as error:
        raise fail(f"cannot start: {error}") from error
    settling = asyncio.create_task(_settle(), name="settle")
    try:
        return await _until_end(broker, told)
    finally:
        settling.cancel()
        await broker.stop()
        _log.info("stopped")


async def _settle() -> None:
    """What would hold clients up later: codecs made at first use, collections of what lives for ever."""
    try:
        for _ in load_newest():
            await asyncio.sleep(_CODEC_PAUSE_S)  # requests that are here already are answered in between
    except Exception:  # noqa: BLE001 - logged whole; what cannot be made fails the request that needs it
        _log.exception("codecs could not be made ahead of their first use")
    gc.freeze()
    gc.set_threshold(700, 10, GC_GENERATION_2_THRESHOLD)


async def _until_end(broker: Broker, told: asyncio.Event) -> int:
    stop = asyncio.create_task(told.wait(), name="signal")
    failure = asyncio.create_task(broker.failure(), name="failure")
    done, _ = await asyncio.wait((stop, failure), return_when=asyncio.FIRST_COMPLETED)
    for task in (stop, failure):
        task.cancel()
    if failure in done:
        _log.critical("the broker failed and stops", exc_info=failure.result())
        return 1
    _log.info("stopping", extra={"timeout_ms": broker.settings.network.shutdown_timeout_ms})
    return 0
