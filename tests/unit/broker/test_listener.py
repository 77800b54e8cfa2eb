"""What the set of connections does on time, without a socket."""

from __future__ import annotations

import pytest

from broker.net import listener as listener_module
from broker.net.listener import Listener


class CountingArena:
    def __init__(self) -> None:
        self.releases = 0

    def allocate(self, size: int, /) -> memoryview:
        raise NotImplementedError

    def reserve(self, min_size: int, /) -> memoryview:
        raise NotImplementedError

    def commit(self, reserved: memoryview, used: int, /) -> None:
        raise NotImplementedError

    def release_idle(self) -> None:
        self.releases += 1


async def test_idle_memory_goes_back_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = CountingArena()
    listener = Listener(
        arena=arena,
        dispatch=lambda connection, frame: None,
        make_room=lambda size: None,
        max_request_size_bytes=1000,
        max_connections=lambda: 10,
        max_connections_per_ip=lambda: 10,
        connections_max_idle_ms=1000,
        listen_backlog=10,
    )
    monkeypatch.setattr(listener, "_schedule_sweep", lambda: None)
    sweeps = round(5 / listener_module._SWEEP_S)
    for _ in range(sweeps - 1):
        listener._look_at_all()
    assert arena.releases == 0
    for _ in range(sweeps + 1):
        listener._look_at_all()
    assert arena.releases == 2
