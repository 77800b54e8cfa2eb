"""What is in flight stays below its bytes, in order, also when waiters give up."""

from __future__ import annotations

import asyncio

import pytest

from s3stream.stores.byte_budget import ByteBudget


async def test_bounds_and_keeps_order() -> None:
    budget = ByteBudget(100)
    order: list[int] = []
    most = 0

    async def work(number: int, size: int) -> None:
        nonlocal most
        async with budget.hold(size):
            order.append(number)
            most = max(most, budget.held_bytes)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(work(number, size) for number, size in enumerate([60, 30, 40, 10, 1000, 5, 0])))
    assert order == list(range(7))
    assert most <= 100
    assert budget.held_bytes == 0


async def test_a_waiter_that_is_cancelled_leaves_nothing_behind() -> None:
    budget = ByteBudget(10)

    async def work(size: int) -> None:
        async with budget.hold(size):
            await asyncio.sleep(0)

    async with budget.hold(10):
        waiting = [asyncio.create_task(work(8)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
    waiting[1].cancel()  # admitted in the same moment
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]
    await waiting[2]
    assert budget.held_bytes == 0
