"""`weir verify` on a healthy broker and on nothing at all; `tests.long.verify_shows` breaks brokers for it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient

from benchmarks.verify.stored import load
from broker.embedded import BrokerThread
from tests.services.process import free_port


def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_a_healthy_broker_passes(weir_session_broker: BrokerThread, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    bootstrap = weir_session_broker.bootstrap
    options = ("--duration", "2.5", "--rate", "400", "--producers", "3", "--topics", "1", "--history", str(history))
    done = verify("--bootstrap", bootstrap, *options, "--chaos", "echo round $VERIFY_ROUND", "--chaos-every", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing found" in done.stdout
    run = load(history)
    assert [each.output for each in run.chaos][:1] == ["round 1"]
    assert len(run.history.partitions()) == 3
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).topics
    assert not [name for name in topics if name.startswith("weir-verify-")]
    again = verify("--judge", str(history))
    assert again.returncode == 0
    assert again.stdout == done.stdout


def test_no_broker_is_no_verdict() -> None:
    done = verify("--bootstrap", f"127.0.0.1:{free_port()}", "--heal-timeout", "1")
    assert done.returncode == 3
    assert "no Kafka broker answers" in done.stderr


def _interruptible() -> None:
    """Shells start background jobs with interrupts ignored, and a test run may be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_ends_the_load_and_what_was_done_is_judged(weir_session_broker: BrokerThread) -> None:
    command = [sys.executable, "-m", "benchmarks.verify", "--bootstrap", weir_session_broker.bootstrap]
    command += ["--duration", "600", "--producers", "3", "--topics", "1", "--members", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_interruptible
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # the load runs
        assert "acknowledged" in first
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert "interrupted: ending the load" in err
    assert "Nothing found" in out
