"""MinIO as a plain process on loopback; its binary is built from its Go module."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from tests.services.locate import cache_dir, find_program
from tests.services.process import Child, free_port
from tests.services.s3 import S3Service


def install() -> Path:
    """Build MinIO with Go into the cache (about three minutes on two cores); the binary."""
    go = find_program("go", install="a Go toolchain, 1.24 or later")
    target = cache_dir() / "minio"
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [go, "install", "github.com/minio/minio@latest"], check=True, env={**os.environ, "GOBIN": str(target)}
    )
    return target / "minio"


def binary() -> Path:
    """The `minio` program; NotInstalledError says how to get it."""
    return find_program(
        "minio",
        variable="WEIR_MINIO",
        cached="minio/minio",
        install="python -m tests.services install minio",
    )


class Minio(S3Service):
    """One MinIO server with its data in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.child = Child(
            [str(binary()), "server", "--address", f"127.0.0.1:{self.port}", str(directory / "data")],
            directory / "minio.log",
            env={
                "MINIO_ROOT_USER": self.access_key,
                "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off",
            },
        )

    def start(self) -> None:
        self.child.start()
        self.child.wait_until(self._ready, timeout_s=60, what="MinIO's readiness")

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/minio/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        self.child.stop()

    def kill9(self) -> None:
        """SIGKILL, to start again on the same data."""
        self.child.kill9()

    def pause(self) -> None:
        self.child.pause()

    def resume(self) -> None:
        self.child.resume()
