"""A call that fails for a while is repeated, counted, and heard of when it begins and ends; at once if asked to."""

from __future__ import annotations

import asyncio
import logging
import random

import pytest

from s3stream.errors import OutcomeUnknown, Retry
from s3stream.retrying import Retrying


async def test_an_outage_is_logged_at_its_beginning_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    failures = [Retry("busy"), *(OutcomeUnknown("no answer") for _ in range(11))]
    count = len(failures)
    counted = 0

    def on_failure() -> None:
        nonlocal counted
        counted += 1

    async def call() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    retrying = Retrying(1, 2, random.Random(0), on_failure)
    with caplog.at_level(logging.INFO):
        assert await retrying.until_settled("put", call) == "done"
        assert await retrying.until_settled("put", call) == "done"
    assert counted == count
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "put failed",
        "put failed",
        "put: through at try 13",
    ]


async def test_a_hurry_ends_the_pauses_that_are_there() -> None:
    tries = 0

    async def call() -> int:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise Retry("busy", retry_after_ms=3_600_000)
        return tries

    retrying = Retrying(1, 3_600_000, random.Random(0), lambda: None)
    retrying.hurry()  # there is none yet
    work = asyncio.create_task(retrying.until_settled("put", call))
    for expected in (1, 2, 3):
        await asyncio.sleep(0)
        assert tries == expected
        await asyncio.sleep(0)
        retrying.hurry()
        retrying.hurry()
        await asyncio.sleep(0)
    assert await work == 4
    cancelled = asyncio.create_task(retrying.until_settled("put", call))
    tries = 0
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    retrying.hurry()
