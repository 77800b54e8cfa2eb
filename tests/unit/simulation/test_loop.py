"""The simulated loop: virtual time, order, failures, nodes that stop without a finally."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.simulation.errors import Deadlock, Livelock, NotSimulated, OutOfTime, SimulationFailure
from tests.simulation.loop import START_TIME_S, SimulatedLoop
from tests.simulation.nodes import CURRENT


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    made = SimulatedLoop(max_steps_per_instant=10_000)
    yield made
    made.close()


def test_time_is_virtual_and_timers_run_in_order(loop: SimulatedLoop) -> None:
    seen: list[tuple[str, float]] = []

    async def main() -> None:
        loop.call_later(20, lambda: seen.append(("b", loop.time())))
        loop.call_later(10, lambda: seen.append(("a", loop.time())))
        cancelled = loop.call_later(15, lambda: seen.append(("never", loop.time())))
        loop.call_later(20, lambda: seen.append(("c", loop.time())))
        cancelled.cancel()
        loop.call_soon(lambda: seen.append(("now", loop.time())))
        await asyncio.sleep(3600)

    loop.run_until_complete(main())
    assert seen == [("now", START_TIME_S), ("a", START_TIME_S + 10), ("b", START_TIME_S + 20), ("c", START_TIME_S + 20)]
    assert loop.time() == START_TIME_S + 3600


def test_ordinary_asyncio_runs(loop: SimulatedLoop) -> None:
    async def main() -> list[object]:
        queue: asyncio.Queue[int] = asyncio.Queue(2)

        async def produce() -> None:
            for number in range(10):
                await queue.put(number)
                await asyncio.sleep(0.1)

        async def consume() -> list[int]:
            return [await queue.get() for _ in range(10)]

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            consumer = group.create_task(consume())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return [consumer.result(), loop.time() - START_TIME_S]

    numbers, elapsed = loop.run_until_complete(main())
    assert numbers == list(range(10))
    assert elapsed == pytest.approx(6.0)


def test_an_exception_in_a_callback_fails_the_run(loop: SimulatedLoop) -> None:
    async def main() -> None:
        loop.call_later(1, lambda: 1 // 0)
        await asyncio.sleep(10)

    with pytest.raises(SimulationFailure) as caught:
        loop.run_until_complete(main())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_task_exception_nobody_retrieves_fails_the_run(loop: SimulatedLoop) -> None:
    async def broken() -> None:
        raise ValueError("lost")

    async def main() -> None:
        task = loop.create_task(broken())
        await asyncio.sleep(1)
        loop._world_tasks.tasks.clear()
        del task
        gc.collect()
        await asyncio.sleep(1)

    with pytest.raises(SimulationFailure, match="never retrieved"):
        loop.run_until_complete(main())


def test_deadlock_livelock_and_time_limit_are_told_apart(loop: SimulatedLoop) -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="stuck"):
        loop.run_until_complete(stuck())

    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with pytest.raises(Livelock):
        loop.run_until_complete(spin())

    async def tick() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(OutOfTime):
        SimulatedLoop().run_until_complete(tick(), limit_s=100)


def test_threads_signals_and_missing_network_are_refused(loop: SimulatedLoop) -> None:
    async def main() -> None:
        with pytest.raises(NotSimulated, match="thread"):
            await asyncio.to_thread(print)
        with pytest.raises(NotSimulated):
            loop.add_signal_handler(15, print)
        with pytest.raises(NotSimulated, match="network"):
            await asyncio.open_connection("somewhere", 1)

    loop.run_until_complete(main())


def test_a_killed_node_runs_nothing_more_and_no_finally(loop: SimulatedLoop) -> None:
    seen: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(5)
            seen.append("child woke")
        finally:
            seen.append("child finally")

    async def process() -> None:
        asyncio.get_running_loop().call_later(4, lambda: seen.append("callback"))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                group.create_task(asyncio.Event().wait())  # a future that nothing else refers to
        finally:
            seen.append("finally")

    async def main() -> None:
        node = loop.start_node("a")
        task = loop.spawn(node, process())
        await asyncio.sleep(3)
        assert len(node.pending_tasks()) == 3
        loop.kill(node)
        await asyncio.sleep(60)
        assert not task.done()
        del task, node
        again = loop.start_node("a")
        assert again.incarnation == 2
        assert await loop.spawn(again, asyncio.sleep(1, "alive")) == "alive"

    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert seen == []


def test_a_paused_node_catches_up_in_order(loop: SimulatedLoop) -> None:
    seen: list[tuple[int, float]] = []

    async def process() -> None:
        for number in range(6):
            seen.append((number, loop.time() - START_TIME_S))
            await asyncio.sleep(1)

    async def main() -> None:
        node = loop.start_node("a")
        loop.spawn(node, process())
        await asyncio.sleep(2.5)
        loop.pause(node)
        await asyncio.sleep(10)
        loop.resume(node)
        await asyncio.sleep(10)

    loop.run_until_complete(main())
    assert seen == [(0, 0), (1, 1), (2, 2), (3, 12.5), (4, 13.5), (5, 14.5)]


def test_everything_a_node_starts_is_its_own_and_world_callbacks_are_not(loop: SimulatedLoop) -> None:
    seen: list[tuple[str, object]] = []

    async def process() -> None:
        seen.append(("task", CURRENT.get()))
        loop.call_soon(lambda: seen.append(("callback", CURRENT.get())))
        loop.call_world(0, lambda: seen.append(("world", CURRENT.get())))
        await loop.create_task(asyncio.sleep(1))

    node = loop.start_node("a")
    loop.run_until_complete(loop.spawn(node, process()))
    assert seen == [("task", node), ("callback", node), ("world", None)]


def test_a_parked_async_generator_is_not_finalized(loop: SimulatedLoop) -> None:
    seen: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(1)
        finally:
            seen.append("finally")

    async def process() -> None:
        async for _ in numbers():
            pass

    async def main() -> None:
        node = loop.start_node("a")
        loop.spawn(node, process())
        await asyncio.sleep(2.5)
        loop.kill(node)

    loop.run_until_complete(main())
    loop.close()
    gc.collect()
    assert seen == []


def test_the_collector_is_off_during_a_run_and_back_on_after(loop: SimulatedLoop) -> None:
    async def main() -> bool:
        return gc.isenabled()

    assert gc.isenabled()
    assert loop.run_until_complete(main()) is False
    with contextlib.suppress(Deadlock):
        loop.run_until_complete(asyncio.Event().wait())
    assert gc.isenabled()
