"""The broker that the client programs talk to: `--bootstrap HOST:PORT`, or a broker started for the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services import NotInstalledError, WeirProcess


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bootstrap", default=None, help="run against this broker instead of starting one")


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the broker under test."""
    given = request.config.getoption("--bootstrap", default=None)
    if given:
        yield given
        return
    with WeirProcess(tmp_path_factory.mktemp("weir")) as broker:
        yield broker.bootstrap


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A toolchain that is not there skips the test and says how to get it."""
    try:
        return (yield)
    except NotInstalledError as error:
        pytest.skip(str(error))
