"""Whether the bucket can carry what is promised: must be shown at the first start, is asked again behind later ones.

A broker that comes back while its store is away has the write-ahead log and the metadata to serve from. So a data
folder remembers, durably, on which bucket it has passed; with that bucket a start waits for nothing, and the question
is asked in the background until the answer is yes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

from s3stream.backoff import Backoff
from s3stream.durable_folder import replace_file_durably
from s3stream.errors import Invalid, OutcomeUnknown, Retry, StreamError
from s3stream.ports import ObjectStore
from s3stream.stores.probe import ProbeReport, probe_store

_log = logging.getLogger("weir")
_ATTEMPTS = 3
_PAUSE_S = 0.5
_BACKGROUND_BASE_MS = 1_000
_BACKGROUND_MAX_MS = 15_000
_LOG_EVERY_TRIES = 20
NOTE = "store-probed"
"""The file in the data folder: the place of the bucket that passed, one line of UTF-8."""


class StoreCheck:
    """Asks one store. `problem` says why it is not known to be fit since this start, None once it is. `place`: see
    `stores.place_of`; `limit_s`: of one probe; `data_dir`: None keeps no note."""

    def __init__(
        self, store: ObjectStore, rng: random.Random, place: str, limit_s: float, data_dir: Path | None
    ) -> None:
        self.problem: str | None = "has not answered since the start"
        self._store, self._rng, self._place, self._limit_s = store, rng, place, limit_s
        self._data_dir = data_dir

    async def require(self) -> None:
        """At a first start: Invalid with the reason if the store cannot be used, Retry if it does not answer in
        time. Remembered when it is fit."""
        await self._pass(_ATTEMPTS)

    async def run(self) -> None:
        """In the background of a later start: ask until the store has shown that it is fit."""
        backoff = Backoff(_BACKGROUND_BASE_MS, _BACKGROUND_MAX_MS, self._rng)
        while self.problem is not None:
            try:
                await self._pass(1)
            except StreamError as error:
                self.problem = str(error)
                if backoff.tries % _LOG_EVERY_TRIES == 0:
                    _log.warning(
                        "serving from the write-ahead log: the object store is not usable now, it is asked again",
                        extra={"store": self._place, "reason": self.problem, "try": backoff.tries + 1},
                    )
                await asyncio.sleep(backoff.next_delay_s(error if isinstance(error, Retry) else Retry(str(error))))
        if backoff.tries:
            _log.warning("the object store is usable again", extra={"store": self._place, "try": backoff.tries + 1})

    async def _pass(self, attempts: int) -> None:
        report = await self._probe(attempts)
        report.require(put_if_absent=False)
        self._remember()

    def _remember(self) -> None:
        self.problem = None
        if self._data_dir is None or passed_before(self._data_dir, self._place):
            return
        note = self._data_dir / NOTE
        try:
            replace_file_durably(note, f"{self._place}\n".encode())
        except OSError as error:
            raise Invalid(f"{note} cannot be written: {error}") from error

    async def _probe(self, attempts: int) -> ProbeReport:
        """Asked again when the store was merely busy."""
        last: StreamError = Retry("no answer")
        limit_s = self._limit_s
        try:
            async with asyncio.timeout(limit_s):
                for attempt in range(attempts):
                    await asyncio.sleep(attempt * _PAUSE_S)
                    try:
                        return await probe_store(self._store, f"{self._rng.getrandbits(64):016x}")
                    except (Retry, OutcomeUnknown) as error:
                        last = error
        except TimeoutError as error:
            text = f"the object store {self._place} stopped answering at its probe, within {limit_s:g} s: {last}"
            raise Retry(text) from error
        raise Retry(f"the object store {self._place} is not fit to start on: {last}") from last


def passed_before(data_dir: Path, place: str) -> bool:
    """Whether the bucket at `place` has passed for this data folder. A note that cannot be read is none."""
    try:
        return (data_dir / NOTE).read_bytes() == f"{place}\n".encode()
    except OSError:
        return False
