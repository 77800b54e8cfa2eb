"""The broker under test as a real process; the only place in the tests that knows its command line."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.process import Child, Service, free_ports, port_open
from tests.services.s3 import S3Service

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Store:
    """Where the broker keeps its objects: `service=None` is a folder below the data directory."""

    service: S3Service | None = None
    bucket: str = "weir"


@dataclass
class WeirProcess(Service):
    """`weir serve` on loopback with its data in `directory`; `settings` are Kafka-style names and values."""

    directory: Path
    store: Store = field(default_factory=Store)
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0
    prefix: tuple[str, ...] = ()
    python: str = sys.executable
    http_port: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.http_port, kafka_port = free_ports(2)
        self.port = self.port or kafka_port
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory / "weir.log"
        # Variables of the tests (WEIR_TESTS_CACHE, WEIR_MINIO) would be unknown settings to it.
        self.child = Child(self.command(), self.log, env=self.environment(), without="WEIR_")

    def command(self) -> list[str]:
        """The command that starts it."""
        settings = {"data.dir": str(self.directory / "data"), "listeners": f"PLAINTEXT://{self.bootstrap}"}
        settings["http.port"] = str(self.http_port)
        settings["logging.level"] = "warning"
        if self.store.service is not None:
            settings["store.url"] = f"s3://{self.store.bucket}"
            settings["store.s3.endpoint"] = self.store.service.endpoint
        settings |= self.settings
        command = [*self.prefix, self.python, "-m", "broker", "serve"]
        return command + [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]

    def environment(self) -> dict[str, str]:
        """The variables it gets beside ours: the import path and the store's credentials."""
        path = os.pathsep.join(p for p in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if p)
        found = {"PYTHONPATH": path}
        if (service := self.store.service) is not None:
            found["AWS_ACCESS_KEY_ID"] = service.access_key
            found["AWS_SECRET_ACCESS_KEY"] = service.secret_key
            found["AWS_REGION"] = service.region
        return found

    @property
    def pid(self) -> int:
        return self.child.pid

    def start(self) -> None:
        self.child.start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Wait until the listener accepts connections (it does so only after recovery)."""
        self.child.wait_until(lambda: port_open(self.port), timeout_s=timeout_s, what="the broker's listener")

    def stop(self) -> None:
        self.child.stop()

    def kill9(self) -> None:
        """SIGKILL: nothing of the broker runs any more, not even a `finally`."""
        self.child.kill9()

    def pause(self) -> None:
        self.child.pause()

    def resume(self) -> None:
        self.child.resume()
