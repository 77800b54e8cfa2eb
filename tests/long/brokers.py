"""The broker a long run works on: Weir on a folder, MinIO or Ceph, or Apache Kafka, all killable and restartable."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.services import CephRgw, KafkaProcess, Minio, S3Service, Store, WeirProcess


class Broker(Protocol):
    """What a run needs of a broker process."""

    bootstrap: str

    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill9(self) -> None: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose the broker."""
    parser.add_argument("--broker", choices=("weir", "kafka"), default="weir", help="the process under test")
    parser.add_argument("--store", choices=("folder", "minio", "ceph"), default="folder", help="Weir's object store")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of Weir's")
    parser.add_argument("--directory", type=Path, help="keep data and logs here (default: a temporary directory)")


@contextlib.contextmanager
def running(arguments: argparse.Namespace) -> Iterator[tuple[Broker, S3Service | None, Path]]:
    """The started broker, the S3 service below it (if any) and the directory of the run.

    A temporary directory is deleted when the run succeeds and kept, its path printed, when it fails.
    """
    directory: Path = arguments.directory or Path(tempfile.mkdtemp(prefix="weir-long-"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            service: S3Service | None = None
            if arguments.broker == "weir" and arguments.store != "folder":
                made = Minio(directory / "minio") if arguments.store == "minio" else CephRgw(directory / "ceph")
                service = stack.enter_context(made)
                service.create_bucket("weir")
            broker: KafkaProcess | WeirProcess
            if arguments.broker == "kafka":
                broker = KafkaProcess(directory / "kafka")
            else:
                broker = WeirProcess(
                    directory / "weir",
                    store=Store(service),
                    settings=dict(pair.split("=", 1) for pair in arguments.set),
                )
            stack.enter_context(broker)
            yield broker, service, directory
    except BaseException:
        print(f"kept for inspection: {directory}")
        raise
    if not arguments.directory:
        shutil.rmtree(directory, ignore_errors=True)


def create_topic(bootstrap: str, name: str, partitions: int) -> None:
    """Create a topic and wait until it is led."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(timeout=30)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = admin.list_topics(name, timeout=10).topics[name]
        if len(found.partitions) == partitions and all(p.leader >= 0 for p in found.partitions.values()):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{name} has no leaders")


def watermarks(consumer: Consumer, topic: str, partitions: int) -> list[tuple[int, int]]:
    """(first offset, end offset) of each partition; a broker that has just started may take a while to lead them."""
    found = []
    for partition in range(partitions):
        deadline = time.monotonic() + 60
        while True:
            try:
                found.append(consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10))
                break
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    return found
