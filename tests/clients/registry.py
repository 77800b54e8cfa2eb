"""The clients of the matrix: how each program is started, what it needs and what it cannot do."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services import kafka as kafka_service
from tests.services.locate import NotInstalledError, cache_dir, find_program

PROGRAMS = Path(__file__).resolve().parent / "programs"
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
CODEC_BITS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class ClientError(Exception):
    """A client program ended with an error; the text is what it wrote."""


@dataclass(frozen=True)
class Client:
    """One client program: `command()` builds its command line once its toolchain is ready."""

    name: str
    command: Callable[[], Sequence[str]]
    codecs: tuple[str, ...] = CODECS
    idempotent: bool = True
    per_record_metadata: bool = True
    environment: Callable[[], dict[str, str]] = dict
    marks: tuple[str, ...] = ()

    def run(
        self,
        mode: str,
        bootstrap: str,
        topic: str,
        count: int,
        *,
        codec: str = "none",
        tag: str = "-",
        group: str = "-",
    ) -> dict[str, Any]:
        """Run one mode (contract.py) and return what it printed."""
        command = [*self.command(), mode, bootstrap, topic, str(count), codec, tag, group]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=100, env={**os.environ, **self.environment()}
        )
        if done.returncode != 0 or not done.stdout.strip():
            raise ClientError(f"{self.name} {mode} ended with {done.returncode}:\n{done.stderr[-4000:]}")
        result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return result


def _build(what: str, *command: object, **options: Any) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise NotInstalledError(f"{what} could not be installed: {' | '.join(last)}")


def _this_python(program: str) -> Callable[[], Sequence[str]]:
    return lambda: (sys.executable, str(PROGRAMS / program))


@functools.cache
def _python_for_old_wheels() -> Path:
    """A Python from 3.8 to 3.10 (confluent-kafka 1.9 has wheels for these), else the running one."""
    given = os.environ.get("WEIR_OLD_PYTHON")
    if given:
        return Path(given)
    versions = Path.home() / ".pyenv" / "versions"
    for minor in (10, 9, 8):
        for found in sorted(versions.glob(f"3.{minor}.*/bin/python"), reverse=True):
            return found
        program = shutil.which(f"python3.{minor}")
        if program is not None and subprocess.run([program, "-V"], capture_output=True).returncode == 0:
            return Path(program)
    return Path(sys.executable)


def _venv(name: str, python: Callable[[], Path], *packages: str) -> Path:
    """The Python of a virtual environment in the cache that holds `packages`, made on first use."""
    home = cache_dir() / "venvs" / name
    stamp = home / "installed.txt"
    if not stamp.is_file() or stamp.read_text() != " ".join(packages):
        _build(name, python(), "-m", "venv", "--clear", home)
        _build(name, home / "bin" / "python", "-m", "pip", "install", "-q", *packages)
        stamp.write_text(" ".join(packages))
    return home / "bin" / "python"


@functools.cache
def _confluent_19() -> Sequence[str]:
    # Without an older Python pip builds it against Debian's librdkafka-dev; then the library below is 2.0.2.
    python = _venv("confluent-kafka-1.9", _python_for_old_wheels, "confluent-kafka==1.9.2")
    return str(python), str(PROGRAMS / "confluent.py")


@functools.cache
def _kafka_python_20() -> Sequence[str]:
    packages = ("kafka-python==2.0.2", "six", "python-snappy", "lz4", "zstandard", "crc32c")
    python = _venv("kafka-python-2.0.2", lambda: Path(sys.executable), *packages)
    return str(python), str(PROGRAMS / "kafka_python.py")


@functools.cache
def _java() -> Sequence[str]:
    """Compiles the source into the cache once: starting from source costs a second each time."""
    libs = kafka_service.jars()
    java = kafka_service.java()
    compiler = java.resolve().parent / "javac"
    source = PROGRAMS / "KafkaClients.java"
    classes = cache_dir() / "java-client"
    options = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    if not compiler.is_file():
        return str(java), *options, "-cp", f"{libs}/*", str(source)
    target = classes / "KafkaClients.class"
    if not target.is_file() or target.stat().st_mtime < source.stat().st_mtime:
        classes.mkdir(parents=True, exist_ok=True)
        _build("the Java client", compiler, "-cp", f"{libs}/*", "-d", classes, source)
    return str(java), *options, "-cp", f"{classes}:{libs}/*", "KafkaClients"


def _go(program: str) -> Callable[[], Sequence[str]]:
    @functools.cache
    def command() -> Sequence[str]:
        go = find_program("go", install="a Go toolchain (the version in tests/clients/programs/go/go.mod)")
        target = cache_dir() / "go" / program
        target.parent.mkdir(parents=True, exist_ok=True)
        _build(program, go, "build", "-o", target, f"./{program}", cwd=PROGRAMS / "go")
        return (str(target),)

    return command


@functools.cache
def _node_modules() -> Path:
    home = cache_dir() / "node"
    lock = (PROGRAMS / "node" / "package-lock.json").read_text()
    stamp = home / "installed.json"
    if not stamp.is_file() or stamp.read_text() != lock:
        npm = find_program("npm", install="apt-get install npm")
        home.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROGRAMS / "node" / name, home / name)
        _build("kafkajs", npm, "ci", "--no-audit", "--no-fund", cwd=home)
        stamp.write_text(lock)
    return home / "node_modules"


@functools.cache
def _kafkajs() -> Sequence[str]:
    node = find_program("node", install="apt-get install nodejs npm")
    _node_modules()
    return str(node), "--no-deprecation", str(PROGRAMS / "node" / "kafkajs.js")


def _kcat() -> Sequence[str]:
    find_program("kcat", install="apt-get install kcat")
    return sys.executable, str(PROGRAMS / "kcat.py")


CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        Client("kcat", _kcat, per_record_metadata=False),
        Client("confluent-kafka", _this_python("confluent.py")),
        Client("confluent-kafka-1.9", _confluent_19),
        Client("aiokafka", _this_python("aiokafka_client.py")),
        Client("kafka-python", _this_python("kafka_python.py")),
        Client("kafka-python-2.0.2", _kafka_python_20, idempotent=False),
        Client("java", _java, marks=("jvm",)),
        Client("franz-go", _go("franz"), marks=("golang",)),
        Client("sarama", _go("sarama"), marks=("golang",)),
        Client(
            "kafkajs",
            _kafkajs,
            environment=lambda: {"NODE_PATH": str(_node_modules()), "KAFKAJS_NO_PARTITIONER_WARNING": "1"},
            marks=("node",),
        ),
    )
}
