"""`weir bench` against a broker: a short run measures what was sent; errors name what is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.embedded import BrokerThread

pytest.importorskip("confluent_kafka")
pytest.importorskip("hdrh")

from benchmarks.bench.cli import app
from benchmarks.bench.result import Result, read
from benchmarks.bench.table import read_any
from tests.services import WeirProcess, free_port

RUN = CliRunner()


def bench(*arguments: str, expected: int = 0) -> str:
    done = RUN.invoke(app, list(arguments))
    assert done.exit_code == expected, done.output + repr(done.exception)
    return done.output


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def measured(out: Path, broker: BrokerThread, *arguments: str) -> Result:
    bench("run", "-q", "-b", broker.bootstrap, "-o", str(out), *arguments)
    return read(out)


def test_a_rate_is_kept_and_everything_is_read(weir_broker: BrokerThread, tmp_path: Path) -> None:
    options = "--rate 2000 --duration 2 --warmup 1 --partitions 3 --groups 2 --record-size 200 --set load.key=random"
    found = measured(tmp_path / "r.json", weir_broker, *options.split(), "--html", str(tmp_path / "r.html"))
    assert found.records_acked == pytest.approx(4000, rel=0.1)
    assert found.records_read == pytest.approx(8000, rel=0.1)
    assert found.records_failed == 0
    assert found.ack is not None
    assert found.ack.count == pytest.approx(4000, abs=20)
    assert found.end_to_end is not None
    assert found.end_to_end.p50 >= found.ack.p50 / 2
    assert found.server is not None
    assert found.server.rss_max > 0
    assert len(found.samples) == 2
    assert not [each for each in found.warnings if "LOST" in each or "not read" in each]
    assert "<svg" in (tmp_path / "r.html").read_text()
    bench("report", str(tmp_path / "r.json"), "-o", str(tmp_path / "all.html"))
    assert "second" in bench("compare", str(tmp_path / "r.json"), str(tmp_path / "r.json"))
    tracked = str(tmp_path / "tracked")
    bench("track", str(tmp_path / "r.json"), "--results", tracked)
    assert "0 figures are worse" in bench("check", str(tmp_path / "r.json"), "--results", tracked)


def test_a_group_catches_up_with_a_backlog(weir_broker: BrokerThread, tmp_path: Path) -> None:
    options = "--rate 5000 --duration 1 --warmup 0 --groups 1 --backlog 5000000 --idle-connections 5"
    options = options.replace("--idle-connections 5", "-s idle_connections=5 -s idle_partitions=4")
    found = measured(tmp_path / "r.json", weir_broker, *options.split())
    assert found.catch_up is not None
    assert found.catch_up.complete
    assert found.catch_up.backlog_bytes >= 5_000_000
    assert found.catch_up.ack_before is not None
    assert not [each for each in found.warnings if "LOST" in each or "idle" in each]


def test_two_brokers_in_turn(weir_broker: BrokerThread, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    address = weir_broker.bootstrap
    options = f"--rounds 1 -s duration_s=1 -s warmup_s=0 -o {out} -s load.record_size=10000"
    bench("versus", f"one={address}", f"two={address},topic.retention.ms=100000", *options.split())
    table = read_any(out)
    assert not isinstance(table, Result)
    assert table.brokers == ("one", "two")
    row = table.row("throughput", "two")
    assert row is not None
    assert row.ratios["mb_per_s"].value > 0


def test_errors_name_what_is_wrong(weir_broker: BrokerThread, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
        assert "no broker answers at" in bench("run", "-q", "-b", nobody, expected=1)
    refused = bench("run", "-q", "-b", weir_broker.bootstrap, "-s", "topic_configs.nonsense=1", expected=1)
    assert "refused topic" in refused
    assert "nonsense" in refused
    wrong = bench("run", "-q", "-b", weir_broker.bootstrap, "-s", "load.codec=brotli", expected=1)
    assert "$.load.codec" in wrong
    nowhere = bench("run", "-q", "-b", weir_broker.bootstrap, "-o", str(tmp_path / "no" / "r.json"), expected=1)
    assert "cannot be written" in nowhere
    full = bench(
        "run", "-q", "-b", weir_broker.bootstrap, "--duration", "1", "--warmup", "0", "-o", "/dev/full", expected=1
    )
    assert "No space left" in full


def test_a_property_that_librdkafka_refuses_is_named(weir_broker: BrokerThread) -> None:
    options = ["--duration", "1", "--warmup", "0", "-s", 'load.client={"no.such.property"="1"}']
    assert "no.such.property" in bench("run", "-q", "-b", weir_broker.bootstrap, *options, expected=1)


def test_profiles_are_listed_and_shown() -> None:
    assert "commit-storm" in bench("profiles", "list")
    assert "spike_rate" in bench("profiles", "show", "spike")
    assert json.dumps("nope")[1:-1] in bench("profiles", "show", "nope", expected=1)


def test_a_broker_that_dies_leaves_a_result_that_says_so(
    start_weir: Callable[..., WeirProcess], tmp_path: Path
) -> None:
    broker = start_weir()
    timer = threading.Timer(6.0, broker.kill9)
    timer.start()
    options = "--rate 200 --duration 8 --warmup 0 -X message.timeout.ms=1000"
    try:
        RUN.invoke(app, ["run", "-q", "-b", broker.bootstrap, "-o", str(tmp_path / "r.json"), *options.split()])
    finally:
        timer.join()
    found = read(tmp_path / "r.json")
    assert found.records_failed > 0
    assert "_MSG_TIMED_OUT" in found.errors
    assert any("process ended" in each for each in found.warnings)
    assert found.server is None


def test_a_matrix_that_is_ended_stops_the_brokers_that_it_started(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "brokers.toml").write_text(
        f'[[broker]]\nname = "weir"\nbootstrap = "127.0.0.1:{port}"\n'
        f'start = "{sys.executable} -m broker serve --data-dir {{dir}}/data --listen 127.0.0.1:{port}"\n'
    )
    command = [sys.executable, "-m", "benchmarks.bench", "matrix", "--brokers", str(tmp_path / "brokers.toml")]
    with (tmp_path / "log").open("wb") as log:
        matrix = subprocess.Popen([*command, "-o", str(tmp_path / "table.json")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while not answers(port) and time.monotonic() < until:
            time.sleep(0.05)
        matrix.terminate()
        assert matrix.wait(30) == 130
    finally:
        matrix.kill()
        matrix.wait()
    assert not answers(port), (tmp_path / "log").read_text()
