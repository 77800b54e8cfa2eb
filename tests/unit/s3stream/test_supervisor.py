"""The supervisor ends every task, also one that a cancellation did not reach."""

from __future__ import annotations

import asyncio

import pytest

from s3stream.supervisor import Supervisor


async def test_a_crash_is_reported_and_a_cancellation_is_not() -> None:
    crashes: list[tuple[str, BaseException]] = []
    supervisor = Supervisor(lambda name, error: crashes.append((name, error)))

    async def crash() -> None:
        raise ValueError("boom")

    supervisor.spawn("crash", crash())
    supervisor.spawn("sleep", asyncio.sleep(3600))
    await asyncio.sleep(0)
    await supervisor.close()
    assert [(name, type(error)) for name, error in crashes] == [("crash", ValueError)]
    with pytest.raises(RuntimeError):
        supervisor.spawn("late", asyncio.sleep(0))


async def test_a_task_that_lost_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3stream.supervisor._CANCEL_AGAIN_S", 0.01)
    supervisor = Supervisor(lambda name, error: None)
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    supervisor.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(supervisor.close(), 5)
    assert lost == 2
