"""Repeats a call by the kind of its error, for as long as it takes: what an upload or a start cannot go on without."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from s3stream.backoff import Backoff
from s3stream.errors import Invalid, NotFound, OutcomeUnknown, Retry

T = TypeVar("T")

_log = logging.getLogger(__name__)
_LOG_EVERY_TRIES = 10


class Retrying:
    """Retry and OutcomeUnknown are repeated, so what is called must be idempotent by a natural key."""

    def __init__(self, base_ms: int, max_ms: int, rng: random.Random, on_failure: Callable[[], None]) -> None:
        self._base_ms, self._max_ms, self._rng = base_ms, max_ms, rng
        self._on_failure = on_failure
        self._pauses: set[asyncio.Future[None]] = set()

    async def until_settled(self, what: str, call: Callable[[], Awaitable[T]], *, also_invalid: bool = False) -> T:
        """The result of `call`; every other kind of error passes through.

        `also_invalid`: a store that refuses for good (credentials, bucket) is asked again too, since an operator can
        mend that and nothing acknowledged may be dropped meanwhile.
        """
        backoff = Backoff(self._base_ms, self._max_ms, self._rng)
        clock = asyncio.get_running_loop().time
        started = clock()
        while True:
            try:
                result = await call()
                if backoff.tries:
                    _log.warning("%s: through at try %d, after %.1f s", what, backoff.tries + 1, clock() - started)
                return result
            except (Retry, OutcomeUnknown) as error:
                failure: Retry | OutcomeUnknown = error
            except NotFound:
                raise
            except Invalid as error:
                if not also_invalid:
                    raise
                failure = Retry(str(error), retry_after_ms=self._max_ms)
            self._on_failure()
            if backoff.tries % _LOG_EVERY_TRIES == 0:
                _log.warning("%s failed, try %d: %s", what, backoff.tries + 1, failure)
            await self._pause(backoff.next_delay_s(failure))

    def hurry(self) -> None:
        """End every pause between two tries: somebody waits who has less time than a pause may take."""
        for pause in self._pauses:
            _end(pause)

    async def _pause(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(delay_s, _end, pause)
        self._pauses.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pauses.remove(pause)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
