"""Brokers as a matrix knows them: how one is reached, started, timed and stopped."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.bench import server
from benchmarks.bench.errors import BenchError


class Broker(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One broker to measure. With `start` it is started here: a command that stays in the foreground; `{dir}` in it
    becomes an empty folder. `topic_configs` are added to every case's, such as `flush.messages=1`. `like` names
    another broker whose process this one shares, with other topic settings."""

    name: str
    bootstrap: str
    prepare: str = ""  # run before it is started, and not timed
    start: str = ""
    like: str = ""
    metrics: str = ""
    pids: tuple[int, ...] = ()
    topic_configs: dict[str, str] = {}
    client: dict[str, str] = {}
    limit_s: float = 90.0  # to start


@dataclass(slots=True)
class Started:
    """A broker's process and what its start took."""

    process: subprocess.Popen[bytes]
    start_ms: float  # to the first connection
    first_ack_ms: float  # to the first acknowledged record, in a topic made for it
    memory_mb: float
    output: Path

    def output_tail(self) -> str:
        """The end of what the process printed."""
        return _tail(self.output)


def _tail(output: Path) -> str:
    return output.read_text(errors="replace")[-1000:]


def start_broker(broker: Broker, cpus: set[int], folder: Path) -> Started:
    """Run the broker's command until its port answers. BenchError with the end of its output when it does not."""
    host, _, port = broker.bootstrap.rpartition(":")
    if _answers(host, int(port)):
        raise BenchError(f"{broker.name}: something already listens on {broker.bootstrap}")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.log"
    if broker.prepare:
        _prepare(broker, folder)
    command = shlex.split(broker.start.replace("{dir}", str(folder)))
    with log.open("wb") as output:
        ours = os.sched_getaffinity(0)
        began = time.monotonic()
        try:
            if cpus:
                os.sched_setaffinity(0, cpus)  # the child inherits it
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise BenchError(f"{broker.name}: {command[0]}: {error.strerror}") from None
        finally:
            os.sched_setaffinity(0, ours)
    try:
        while not _answers(host, int(port)):
            if process.poll() is not None or time.monotonic() - began > broker.limit_s:
                raise BenchError(f"{broker.name} did not start within {broker.limit_s:g} s:\n{_tail(log)}")
            time.sleep(0.005)
        took_ms = (time.monotonic() - began) * 1000
        first_ack(broker)
        acked_ms = (time.monotonic() - began) * 1000
    except BaseException:  # an interrupt, too: nobody else knows of the process yet
        stop_broker(process)
        raise
    pids = server.listening_pids(int(port)) or (process.pid,)
    return Started(process, took_ms, acked_ms, server.usage(pids).rss / 1e6, log)


def first_ack(broker: Broker) -> None:
    """Make a topic, have one record acknowledged, delete the topic. BenchError after the time that a start may take."""
    from confluent_kafka import KafkaException, Producer
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    settings: dict[str, str | int | float | bool] = {
        "bootstrap.servers": broker.bootstrap,
        "log_level": "0",
        **broker.client,
    }
    name = f"weir-bench-start-{time.time_ns():x}"
    until = time.monotonic() + broker.limit_s
    admin = AdminClient(settings)
    while True:
        try:
            admin.create_topics([NewTopic(name, 1, 1)], request_timeout=10)[name].result(timeout=15)
            break
        except KafkaException as error:
            if time.monotonic() > until:
                raise BenchError(f"{broker.name}: no topic could be made: {error.args[0].str()}") from None
            time.sleep(0.05)
    producer = Producer({**settings, "linger.ms": 0, "topic.metadata.refresh.fast.interval.ms": 20})
    producer.produce(name, b"first")
    if producer.flush(broker.limit_s):
        raise BenchError(f"{broker.name}: the first record was not acknowledged within {broker.limit_s:g} s")
    admin.delete_topics([name])[name].result(timeout=30)


def _prepare(broker: Broker, folder: Path) -> None:
    command = shlex.split(broker.prepare.replace("{dir}", str(folder)))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{broker.name}: {broker.prepare}: {error}") from None
    if done.returncode:
        raise BenchError(f"{broker.name}: {broker.prepare} failed:\n{done.stdout}{done.stderr}"[-1000:])


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def stop_broker(process: subprocess.Popen[bytes]) -> None:
    """End a broker that was started here: politely, after 20 seconds not."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
