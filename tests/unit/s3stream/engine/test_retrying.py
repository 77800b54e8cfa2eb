"""A call that fails for a while is repeated, counted, and heard of when it begins and when it ends."""

from __future__ import annotations

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
