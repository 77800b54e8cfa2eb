"""The timer heap against a plain model."""

from __future__ import annotations

import asyncio

from broker.groups.timers import Timers


async def test_fires_in_order_and_only_once() -> None:
    fired: list[tuple[str, int]] = []
    timers: Timers[str, int] = Timers(lambda key, arg: fired.append((key, arg)))
    timers.set("b", 20, 1)
    timers.set("a", 10, 2)
    timers.set("c", 10, 3)
    timers.set("gone", 5, 4)
    timers.cancel("gone")
    await asyncio.sleep(0.06)
    assert fired == [("a", 2), ("c", 3), ("b", 1)]
    assert len(timers) == 0
    timers.close()


async def test_a_later_deadline_and_an_earlier_one() -> None:
    fired: list[str] = []
    timers: Timers[str, int] = Timers(lambda key, arg: fired.append(key))
    timers.set("later", 10, 0)
    timers.set("later", 60, 0)
    timers.set("sooner", 10_000, 0)
    timers.set("sooner", 15, 0)
    await asyncio.sleep(0.035)
    assert fired == ["sooner"]
    await asyncio.sleep(0.05)
    assert fired == ["sooner", "later"]
    timers.close()


async def test_cancelled_and_set_again_uses_the_new_deadline() -> None:
    fired: list[int] = []
    timers: Timers[str, int] = Timers(lambda key, arg: fired.append(arg))
    timers.set("a", 10, 1)
    timers.cancel("a")
    timers.set("a", 40, 2)
    await asyncio.sleep(0.025)
    assert fired == []
    await asyncio.sleep(0.035)
    assert fired == [2]
    timers.close()


async def test_many_heartbeats_do_not_grow_the_heap() -> None:
    timers: Timers[int, int] = Timers(lambda key, arg: None)
    for _ in range(100):
        for member in range(100):
            timers.set(member, 10_000, 0)
    assert len(timers._heap) == 100
    for round_ in range(100):
        for member in range(100):
            timers.cancel(member)
            timers.set(member, 10_000 + round_, 0)
    assert len(timers._heap) <= 2 * 100 + 65
    timers.close()


async def test_an_error_in_one_does_not_stop_the_others() -> None:
    fired: list[str] = []
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))

    def fire(key: str, arg: int) -> None:
        if key == "bad":
            raise RuntimeError("planted")
        fired.append(key)

    timers: Timers[str, int] = Timers(fire)
    timers.set("bad", 5, 0)
    timers.set("good", 6, 0)
    await asyncio.sleep(0.03)
    assert fired == ["good"]
    assert len(errors) == 1
    timers.close()
    timers.set("after", 0, 0)
    assert len(timers) == 0
