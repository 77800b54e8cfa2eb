"""The n-th failure of each port of a whole broker: one scripted workload in the simulated world, one call that fails.

`run(port, mode, n)` plays the script with the n-th call of the port failing in that way, lets the broker come back,
and judges with the checkers. `n=0`: nothing fails, and the calls are counted.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from s3stream.errors import OutcomeUnknown, Retry
from s3stream.ports import Done
from tests.simulation.broker_process import broker_process
from tests.simulation.errors import SimulationFailure
from tests.simulation.stepwise import Stepwise
from tests.simulation.world import BROKER, World, WorldSettings

REFUSED, LOST, NEVER_CAME = "refused", "applied, reply lost", "reply lost, not applied"
KILLED_BEFORE, KILLED_AFTER = "killed before", "killed after"
SYNC_FAILED, RESET = "sync failed", "connection reset"
_KILLS = (KILLED_BEFORE, KILLED_AFTER)

PORTS: dict[str, tuple[str, ...]] = {
    "wal-write": (SYNC_FAILED, *_KILLS),
    "wal-create": (REFUSED, *_KILLS),
    "wal-remove": _KILLS,
    "store-put": (REFUSED, LOST, NEVER_CAME, *_KILLS),
    "store-get": (REFUSED, *_KILLS),
    "store-delete": (REFUSED, LOST, NEVER_CAME, *_KILLS),
    "store-list": (REFUSED, *_KILLS),
    "metadata": (REFUSED, LOST, NEVER_CAME, *_KILLS),
    "network": (RESET,),
}
"""Each port with the ways in which it fails."""

_SEED = 3
_STAY_S = 20.0
_LIMIT_S = 1_000.0


@dataclass
class Outcome:
    """`calls` of the port while the script ran; `failure` is empty when every promise was kept."""

    calls: int
    fired: bool
    failure: str


class Fault:
    """Counts the calls of one port and fails one of them, while the script runs."""

    def __init__(self, world: World, port: str, mode: str, at: int) -> None:
        self.world = world
        self.port, self.mode, self.at = port, mode, at
        self.calls = 0
        self.fired = False
        self.armed = True

    def strikes(self, port: str) -> bool:
        if not self.armed or port != self.port:
            return False
        self.calls += 1
        if self.calls != self.at:
            return False
        self.fired = True
        return True

    def kill(self) -> None:
        self.world.loop.call_world(0, self.world.kill_broker)

    async def killed(self) -> None:
        """Never returns."""
        self.kill()
        await self.world.loop.create_future()

    async def around(self, port: str, method: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.strikes(port):
            return await method(*args, **kwargs)
        if self.mode == REFUSED:
            raise Retry(f"planned failure of {port}")
        if self.mode == KILLED_BEFORE:
            await self.killed()
        if self.mode != NEVER_CAME:
            await method(*args, **kwargs)
        if self.mode == KILLED_AFTER:
            await self.killed()
        raise OutcomeUnknown(f"planned failure of {port}")

    def at_delivery(self) -> None:
        if self.strikes("network"):
            self.world.loop.call_world(0, self.world.network.reset_one, BROKER)


class _Wrapped:
    """A port of a broker process with one fault; what is not named here passes through."""

    def __init__(self, inner: Any, fault: Fault) -> None:
        self._inner, self._fault = inner, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Wal(_Wrapped):
    async def create_segment(self, number: int) -> None:
        await self._fault.around("wal-create", self._inner.create_segment, number)

    async def remove_segments(self, numbers: Sequence[int]) -> None:
        await self._fault.around("wal-remove", self._inner.remove_segments, numbers)

    def write(self, number: int, offset: int, buffers: Sequence[Any], done: Done) -> None:
        fault = self._fault
        if fault.strikes("wal-write"):
            if fault.mode == SYNC_FAILED:
                fault.world.disk.fail_next_sync = True
            elif fault.mode == KILLED_BEFORE:
                fault.kill()
                return
            else:
                self._inner.write(number, offset, buffers, lambda error: fault.kill())
                return
        self._inner.write(number, offset, buffers, done)


class _Store(_Wrapped):
    async def put(self, key: str, body: Sequence[Any], *, if_absent: bool = False) -> None:
        await self._fault.around("store-put", self._inner.put, key, body, if_absent=if_absent)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> Any:
        return await self._fault.around("store-get", self._inner.get, key, start, end)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._fault.around("store-delete", self._inner.delete, keys)

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Any]:
        fault = self._fault
        if fault.strikes("store-list"):
            if fault.mode == REFUSED:
                raise Retry("planned failure of store-list")
            await fault.killed()
        async for page in self._inner.list(prefix, start_after):
            yield page


class _Database(_Wrapped):
    async def transact(self, command: Any, *args: Any) -> Any:
        return await self._fault.around("metadata", self._inner.transact, command, *args)


_WRAPPERS: dict[str, type[_Wrapped]] = {"wal": _Wal, "store": _Store, "database": _Database}


async def _script(world: World, clients: Stepwise) -> None:
    """Everything a broker serves, once or twice: it uploads, reads cold, deletes objects, and starts again."""
    await clients.begin()
    for _ in range(2):
        await clients.produce("idempotent", 3, _STAY_S)
        await clients.produce("plain", 2, _STAY_S)
        await clients.produce("retained", 3, _STAY_S)
        await clients.create_topic(_STAY_S)
        await clients.write_to_topic(_STAY_S)
        await clients.consume(_STAY_S)
        await clients.consume(_STAY_S, retained=True)
        await clients.commit(0, _STAY_S)
        await asyncio.sleep(1.0)  # an upload
        await clients.write_to_topic(_STAY_S)
        await asyncio.sleep(1.0)  # and one of an object that nothing but the topic is in
        await clients.produce("twice", 2, _STAY_S)
        await clients.administer("delete records", _STAY_S)
        await clients.delete_topic(_STAY_S)
        await asyncio.sleep(3.0)  # what was deleted is removed from the bucket
        await clients.look(earliest=True, stay_s=_STAY_S)
        world.bucket.go_down(1.0)
        await clients.produce("plain", 1, _STAY_S)
        await asyncio.sleep(0.6)
        world.kill_broker()  # in the middle of an upload
        await asyncio.sleep(1.0)
    await clients.consume(_STAY_S)
    await clients.commit(0, _STAY_S)
    await asyncio.sleep(65.0)  # until the broken off uploads are looked for and removed


def run(port: str, mode: str, n: int) -> Outcome:
    """Play the script; the `n`-th call of `port` fails as `mode` says."""
    settings = WorldSettings(
        broker={
            "upload.interval.ms": 300,
            "object.delete.delay.ms": 1_000,
            "object.prepare.ttl.ms": 60_000,
            "log.retention.check.interval.ms": 500,
            "wal.trimmed.retention.ms": 0,
        },
        segment_size_bytes=64 * 1024,
    )
    world = World(_SEED, broker_process, settings)
    fault = Fault(world, port, mode, n)
    world.interpose = lambda name, adapter: _WRAPPERS[name](adapter, fault)
    world.network.at_delivery = fault.at_delivery
    clients = Stepwise(world)
    failure = ""
    logging_was_off = logging.root.manager.disable
    logging.disable()
    try:
        world.loop.run_until_complete(_script(world, clients), limit_s=_LIMIT_S)
        fault.armed = False
        world.loop.run_until_complete(clients.finish(), limit_s=_LIMIT_S)
        gc.collect()  # a failed task that nobody looked at speaks up when it is freed
        world.loop.raise_failure()
        failure = "\n".join(str(each) for each in world.loop.run_until_complete(clients.judge())[:20])
    except SimulationFailure:
        failure = traceback.format_exc()
    finally:
        logging.disable(logging_was_off)
        world.close()
    return Outcome(fault.calls, fault.fired, failure)
