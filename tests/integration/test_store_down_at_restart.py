"""A broker that died while its store was away comes back without it: write-ahead log and metadata are enough."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from tests.services import StartError, Store, WeirProcess, free_port
from tests.services.s3 import S3Service


class MotoThread(S3Service):
    """Moto in this process: what it holds outlives its listener, which goes and comes back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", self.port, app, threaded=True)  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None


def produce(bootstrap: str, topic: str, numbers: range, *, idempotent: bool = False) -> None:
    failures: list[str] = []
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": idempotent, "request.timeout.ms": 3000}
    )
    for number in numbers:
        producer.produce(
            topic, b"%d" % number, partition=0, on_delivery=lambda e, _: failures.append(str(e)) if e else None
        )
    assert producer.flush(60) == 0
    assert failures == []


def consume(bootstrap: str, topic: str, numbers: range) -> list[int]:
    """The records of these offsets, as many as come in time."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, numbers.start)])
    found: list[int] = []
    deadline = time.monotonic() + 30
    while len(found) < len(numbers) and time.monotonic() < deadline:
        found += [int(message.value() or b"") for message in consumer.consume(100, 0.5) if message.error() is None]
    consumer.close()
    return found


def readiness(broker: WeirProcess) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}/readyz", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


def wait_for(what: str, reached: Callable[[], object], timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.1)


def test_a_restart_needs_no_store_that_has_passed_before(tmp_path: Path) -> None:
    store = MotoThread()
    settings = {"upload.interval.ms": "200", "store.request.timeout.ms": "2000", "shutdown.timeout.ms": "2000"}
    with store, contextlib.ExitStack() as closing:
        store.create_bucket("weir")
        broker = WeirProcess(tmp_path / "weir", store=Store(store), settings=settings)
        broker.start()
        closing.callback(broker.stop)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        topics = [NewTopic(name, 1, 1) for name in ("t", "new", "state")]
        for future in admin.create_topics(topics).values():
            future.result(30)
        produce(broker.bootstrap, "t", range(100))
        produce(broker.bootstrap, "state", range(100), idempotent=True)
        wait_for("the first upload", lambda: list(store.objects("weir")))
        time.sleep(1)  # its commit
        store.stop()
        produce(broker.bootstrap, "t", range(100, 200))
        broker.kill9()

        broker.start()  # the listener opens only after recovery
        assert "object store: " in readiness(broker)
        assert consume(broker.bootstrap, "t", range(100, 200)) == list(range(100, 200))
        produce(broker.bootstrap, "t", range(200, 250))
        produce(broker.bootstrap, "new", range(50), idempotent=True)
        assert "object store: " in readiness(broker)
        wait_for("a log line", lambda: "serving from the write-ahead log" in broker.log.read_text())
        # What is known of this log's producers lies in the store alone: it waits, and refuses with what is retriable.
        slowed = threading.Thread(
            target=produce, args=(broker.bootstrap, "state", range(100, 150)), kwargs={"idempotent": True}
        )
        slowed.start()
        wait_for("a refusal", lambda: "the state of a log cannot be loaded" in broker.log.read_text())
        assert "Traceback" not in broker.log.read_text()

        store.start()
        wait_for("readiness", lambda: readiness(broker) == "ready\n")
        slowed.join(60)
        assert consume(broker.bootstrap, "state", range(150)) == list(range(150))
        assert consume(broker.bootstrap, "t", range(250)) == list(range(250))
        produce(broker.bootstrap, "t", range(250, 260))
        broker.stop()  # uploads the rest
        assert "in no object" not in broker.log.read_text()
        assert "the object store is usable again" in broker.log.read_text()


def test_another_place_must_pass_first(tmp_path: Path) -> None:
    store = MotoThread()
    with store:
        store.create_bucket("weir")
        broker = WeirProcess(tmp_path / "weir", store=Store(store), settings={"store.request.timeout.ms": "5000"})
        broker.start()
        broker.stop()
    moved = WeirProcess(
        tmp_path / "weir", store=Store(store), settings={"store.request.timeout.ms": "5000", "store.url": "s3://other"}
    )
    with pytest.raises(StartError, match="ended with 1 "):
        moved.start()
    assert "cannot start: bucket other: Could not connect" in moved.log.read_text()
