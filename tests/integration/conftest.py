"""A real broker process per test that wants one, and in-memory brokers from the project's own plugin."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.pytest_plugin import weir_broker, weir_session_broker
from tests.services import WeirProcess

__all__ = ["weir_broker", "weir_session_broker"]


@pytest.fixture
def topic() -> str:
    """A topic name of this test's own."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start_weir(tmp_path: Path) -> Iterator[Callable[..., WeirProcess]]:
    """Starts `weir serve` with the given settings, in a folder that later starts in the same test share."""
    started: list[WeirProcess] = []

    def start(**settings: str) -> WeirProcess:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        process = WeirProcess(tmp_path / "weir", settings={"group.initial.rebalance.delay.ms": "0", **given})
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill9()
