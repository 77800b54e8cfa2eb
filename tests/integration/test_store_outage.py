"""The store hangs under load: producers are slowed and never lied to, the broker stays up and goes on afterwards."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

from tests.services import Store, WeirProcess, free_port
from tests.services.process import Child, port_open
from tests.services.s3 import S3Service

MIB = 1 << 20
SMALL = {
    "upload.interval.ms": "200",
    "upload.size.bytes": str(MIB),
    "wal.segment.bytes": str(MIB),
    "wal.capacity.bytes": str(8 * MIB),
    "store.request.timeout.ms": "2000",
    "shutdown.timeout.ms": "3000",
}


class MotoProcess(S3Service):
    """Moto as a process of its own, which can be stopped by SIGSTOP."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.child = Child([sys.executable, "-m", "moto.server", "-p", str(port)], directory / "moto.log")
        self.port = port

    def start(self) -> None:
        self.child.start()
        self.child.wait_until(lambda: port_open(self.port), timeout_s=60, what="moto's listener")

    def stop(self) -> None:
        self.child.stop()

    def pause(self) -> None:
        self.child.pause()

    def resume(self) -> None:
        self.child.resume()


@contextlib.contextmanager
def running(directory: Path) -> Iterator[tuple[WeirProcess, MotoProcess]]:
    with MotoProcess(directory) as store:
        store.create_bucket("weir")
        with WeirProcess(directory / "weir", store=Store(store), settings=SMALL) as broker:
            admin = AdminClient({"bootstrap.servers": broker.bootstrap})
            admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
            yield broker, store


class Load:
    """One idempotent producer of numbered records of 10 kB; `offsets[n]` is where record n was acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        self.offsets: dict[int, int] = {}
        self.failures: list[str] = []
        self.sent = 0
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "batch.size": 100_000,
                "queue.buffering.max.messages": 200,
                "request.timeout.ms": 5000,
                "error_cb": lambda _: None,
            }
        )

    def _delivered(self, number: int, error: Any, message: confluent_kafka.Message) -> None:
        if error is not None:
            self.failures.append(str(error))
        else:
            self.offsets[number] = message.offset() or 0

    def step(self, seconds: float) -> int:
        """Send what fits for a while; how many records were acknowledged meanwhile."""
        before, end = len(self.offsets), time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(BufferError):
                number = self.sent
                body = b"%d" % number + b"." * 10_000
                self._producer.produce(
                    "t", body, partition=0, on_delivery=lambda e, m, n=number: self._delivered(n, e, m)
                )
                self.sent += 1
            self._producer.poll(0.001)
        return len(self.offsets) - before

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


def read_back(bootstrap: str, count: int) -> list[int]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False}
    )
    consumer.assign([confluent_kafka.TopicPartition("t", 0, 0)])
    found: list[int] = []
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.5):
            assert message.error() is None
            assert message.offset() == len(found)
            found.append(int((message.value() or b"").rstrip(b".")))
    consumer.close()
    return found


def test_producers_wait_for_a_store_that_hangs_and_lose_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as (broker, store):
        load = Load(broker.bootstrap)
        assert load.step(1) > 0
        store.pause()
        deadline = time.monotonic() + 40
        assert load.step(1) > 0, "the write-ahead log takes records while the store hangs"
        while load.step(1) > 0:
            assert time.monotonic() < deadline, "a write-ahead log of 8 MiB never filled"
        load.step(3)
        assert broker.child.running
        store.resume()
        while load.step(0.5) == 0:
            assert time.monotonic() < deadline + 60, "nothing was acknowledged after the store came back"
        load.flush()
        assert load.failures == []
        assert load.offsets == {number: number for number in range(load.sent)}
        assert read_back(broker.bootstrap, load.sent) == list(range(load.sent))
        log = broker.log.read_text()
        assert "put failed, try 1: " in log
        assert "put: through at try " in log
        assert len(log.splitlines()) < 20, log
        assert "Traceback" not in log


def test_a_broker_stops_in_time_while_the_store_hangs_and_replays_later(tmp_path: Path) -> None:
    with running(tmp_path) as (broker, store):
        load = Load(broker.bootstrap)
        store.pause()
        load.step(0.3)
        load.flush()
        started = time.monotonic()
        assert broker.child.stop(timeout_s=60) == 0
        assert time.monotonic() - started < 20
        assert "bytes in the WAL and in no object" in broker.log.read_text()
        store.resume()
        broker.start()
        assert read_back(broker.bootstrap, load.sent) == list(range(load.sent))
