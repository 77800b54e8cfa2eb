"""What the tests' own service processes rest on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services import WeirProcess
from tests.services.process import Child


def test_a_broker_process_gets_none_of_the_tests_own_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_TESTS_CACHE", "/nowhere")  # to a broker: an unknown setting
    monkeypatch.setenv("OTHER", "passed on")
    broker = WeirProcess(tmp_path)
    child = Child(["env"], tmp_path / "env.log", env={"WEIR_ADDED": "1"}, without=broker.child.without)
    child.start()
    assert child.process is not None
    assert child.process.wait(10) == 0
    lines = child.log_tail(1000).splitlines()
    assert "OTHER=passed on" in lines
    assert [line for line in lines if line.startswith("WEIR_")] == ["WEIR_ADDED=1"]
