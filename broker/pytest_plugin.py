"""pytest fixtures that give a broker: `pytest_plugins = ["broker.pytest_plugin"]` or `-p broker.pytest_plugin`.

It is not registered as an entry point: a project that has a package named `broker` of its own must not be broken by
having Weir installed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.embedded import SMALL, BrokerThread


@pytest.fixture(scope="session")
def weir_session_broker() -> Iterator[BrokerThread]:
    """One in-memory broker for the whole test run; use topic names of your own in each test."""
    with BrokerThread(SMALL) as broker:
        yield broker


@pytest.fixture
def weir_broker() -> Iterator[BrokerThread]:
    """A fresh in-memory broker for one test; `weir_broker.bootstrap` is HOST:PORT."""
    with BrokerThread(SMALL) as broker:
        yield broker
