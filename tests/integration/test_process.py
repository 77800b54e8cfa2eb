"""A real broker process: killed, stopped, restarted; its objects come and go."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from tests.services import StartError, WeirProcess

Start = Callable[..., WeirProcess]


def produce(bootstrap: str, topic: str, first: int, count: int, size: int = 10) -> None:
    failures: list[Any] = []
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for i in range(first, first + count):
        producer.produce(
            topic, b"%d" % i + b"." * size, partition=0, on_delivery=lambda error, _: error and failures.append(error)
        )
        producer.poll(0)
    assert producer.flush(30) == 0
    assert failures == []


def read_all(bootstrap: str, topic: str, count: int) -> list[int]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_BEGINNING)])
    found: list[int] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(count, 0.2):
            assert message.error() is None, message.error()
            assert message.offset() == len(found)
            found.append(int(message.value().rstrip(b".")))
    consumer.close()
    return found


def objects(process: WeirProcess) -> list[Path]:
    folder = process.directory / "data" / "objects"
    return [path for path in folder.rglob("*") if path.is_file() and ".weir-tmp" not in path.parts]


def commit(consumer: confluent_kafka.Consumer, wanted: confluent_kafka.TopicPartition) -> None:
    """Commit one offset; the client says "waiting for the coordinator" until it has found and connected to it."""
    deadline = time.monotonic() + 30
    while True:
        try:
            consumer.commit(offsets=[wanted], asynchronous=False)
        except confluent_kafka.KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def until(what: str, holds: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def test_what_was_acknowledged_is_there_after_kill_9(start_weir: Start, topic: str) -> None:
    process = start_weir()
    produce(process.bootstrap, topic, 0, 2000)
    process.kill9()
    process.start()
    assert read_all(process.bootstrap, topic, 2000) == list(range(2000))
    produce(process.bootstrap, topic, 2000, 100)
    process.kill9()
    process.start()
    assert read_all(process.bootstrap, topic, 2100) == list(range(2100))


def test_a_graceful_stop_leaves_everything_in_objects(start_weir: Start, topic: str) -> None:
    process = start_weir()
    produce(process.bootstrap, topic, 0, 1000)
    process.stop()
    assert objects(process)
    process.start()
    reports = [line for line in process.log.read_text().splitlines() if "RecoveryReport" in line]
    assert "frames=0" in reports[-1], reports[-1]
    assert read_all(process.bootstrap, topic, 1000) == list(range(1000))


def test_committed_offsets_survive_kill_9(start_weir: Start, topic: str) -> None:
    process = start_weir()
    produce(process.bootstrap, topic, 0, 10)
    config = {"bootstrap.servers": process.bootstrap, "group.id": "g", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer(config)
    wanted = confluent_kafka.TopicPartition(topic, 0, 7, "half way")
    commit(consumer, wanted)
    consumer.close()
    process.kill9()
    process.start()
    consumer = confluent_kafka.Consumer({**config, "bootstrap.servers": process.bootstrap})
    (found,) = consumer.committed([confluent_kafka.TopicPartition(topic, 0)], 20)
    consumer.close()
    assert (found.offset, found.metadata) == (7, "half way")


def test_deleting_a_topic_removes_its_objects(start_weir: Start, topic: str) -> None:
    process = start_weir(upload_interval_ms="200", object_delete_delay_ms="0")
    produce(process.bootstrap, topic, 0, 3000, size=1000)
    until("objects are uploaded", lambda: len(objects(process)) > 0)
    admin = AdminClient({"bootstrap.servers": process.bootstrap})
    for future in admin.delete_topics([topic]).values():
        future.result(10)
    until("objects are deleted", lambda: objects(process) == [])


def test_retention_removes_objects_and_moves_the_log_start(start_weir: Start, topic: str) -> None:
    process = start_weir(upload_interval_ms="200", object_delete_delay_ms="0", log_retention_check_interval_ms="500")
    admin = AdminClient({"bootstrap.servers": process.bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        future.result(10)
    for i in range(4):
        produce(process.bootstrap, topic, i * 500, 500, size=1000)
        until("objects are uploaded", lambda before=i: len(objects(process)) > before)  # type: ignore[misc]
    entry = ConfigEntry("retention.bytes", "600000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
    consumer = confluent_kafka.Consumer({"bootstrap.servers": process.bootstrap, "group.id": "unused"})
    partition = confluent_kafka.TopicPartition(topic, 0)
    before = len(objects(process))
    until("the log start moved", lambda: consumer.get_watermark_offsets(partition, 10)[0] > 0)
    until("objects went", lambda: len(objects(process)) < before)
    assert consumer.get_watermark_offsets(partition, 10)[1] == 2000
    consumer.close()


def test_two_brokers_cannot_share_a_folder(start_weir: Start, tmp_path: Path) -> None:
    start_weir()
    second = WeirProcess(tmp_path / "weir")
    with pytest.raises(StartError):
        second.start()
    second.kill9()


def test_the_command_line_lists_creates_and_deletes(start_weir: Start, topic: str) -> None:
    process = start_weir()

    def weir(*args: str) -> str:
        command = process.command()
        command = [*command[: command.index("serve")], *args, "--bootstrap", process.bootstrap]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, **process.environment()}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    weir("topics", "create", topic, "--partitions", "3")
    assert topic in weir("topics", "list")
    produce(process.bootstrap, topic, 0, 10)
    consumer = confluent_kafka.Consumer({"bootstrap.servers": process.bootstrap, "group.id": "readers"})
    commit(consumer, confluent_kafka.TopicPartition(topic, 0, 4))
    consumer.close()
    assert "6" in weir("groups", "describe", "readers")
    weir("topics", "delete", topic, "--yes")
    assert topic not in weir("topics", "list")
