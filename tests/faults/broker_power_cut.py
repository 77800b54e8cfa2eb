"""Power cuts of a whole broker: WAL, metadata and objects; every acknowledged record and commit must be there.

    python -m tests.faults.broker_power_cut [--cuts 200] [--messages 3000] [--seed 1] [--lying]

A broker process runs under the recorder while records are produced and offsets are committed; then brokers are started
in this process on what cuts have left. `--lying` runs the one with the planted bug: it must be caught.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker.embedded import SMALL, BrokerThread
from tests.faults.crash_images import Event, power_cuts, read_log
from tests.faults.power_cut import recorder, recording
from tests.services import WeirProcess

TOPIC, GROUP, PARTITIONS = "cut", "cut-group", 3
SETTINGS: dict[str, str] = {
    "wal.segment.bytes": str(1 << 20),
    "wal.capacity.bytes": str(16 << 20),
    "upload.interval.ms": "150",
    "upload.size.bytes": str(128 << 10),
    "offsets.topic.num.partitions": "2",
}


@dataclass
class Promises:
    """(time_ns, partition, offset, value) of acknowledged records, (time_ns, partition, offset) of commits."""

    records: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    commits: list[tuple[int, int, int]] = field(default_factory=list)


class RecordedBroker(WeirProcess):
    """A broker under the recorder."""

    lying = False

    def command(self) -> list[str]:
        command = super().command()
        if self.lying:
            command[command.index("broker")] = "tests.faults.lying_broker"
        return command


def run(directory: Path, messages: int, rng: random.Random, *, lying: bool = False) -> tuple[list[Event], Promises]:
    """Produce and commit against a recorded broker, kill it, the same again on what it left; events and promises."""
    data, log = directory / "weir" / "data", directory / "events"
    env = recording(recorder(directory), data, log, sync_delay_us=2000)
    prefix = ("env", *(f"{name}={env[name]}" for name in env if name == "LD_PRELOAD" or name.startswith("RECORDER_")))
    RecordedBroker.lying = lying
    promises = Promises()
    with RecordedBroker(directory / "weir", settings=SETTINGS, prefix=prefix) as weir:
        admin = AdminClient({"bootstrap.servers": weir.bootstrap, "log_level": 3})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
        load(weir.bootstrap, range(messages // 2), rng, promises)
        weir.kill9()
        weir.start()
        load(weir.bootstrap, range(messages // 2, messages), rng, promises)
        weir.kill9()
    return read_log(log), promises


def load(bootstrap: str, numbers: range, rng: random.Random, promises: Promises) -> None:
    """Numbered records in small batches, with a synchronous offset commit now and then."""

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise RuntimeError(f"a record was refused: {error}")
        partition, offset, value = message.partition(), message.offset(), message.value()
        assert partition is not None
        assert offset is not None
        assert value is not None
        promises.records.append((time.monotonic_ns(), partition, offset, value))

    common = {"bootstrap.servers": bootstrap, "log_level": 3}
    producer = Producer({**common, "linger.ms": 0, "enable.idempotence": True})
    consumer = Consumer({**common, "group.id": GROUP, "enable.auto.commit": False})
    for number in numbers:
        value = b"%06d" % number + bytes([number % 256]) * rng.randint(0, 3000)
        producer.produce(TOPIC, value, partition=number % PARTITIONS, on_delivery=delivered)
        producer.poll(0 if number % 5 else 0.003)
        if number % 100 == 99:
            producer.flush(30)
            partition = number // 100 % PARTITIONS
            commit(consumer, TopicPartition(TOPIC, partition, number // PARTITIONS))
            promises.commits.append((time.monotonic_ns(), partition, number // PARTITIONS))
    producer.flush(30)
    consumer.close()


def commit(consumer: Consumer, position: TopicPartition) -> None:
    """Commit and wait for the answer; a coordinator that is still loading is asked again."""
    for _ in range(100):
        try:
            consumer.commit(offsets=[position], asynchronous=False)
            return
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError._WAIT_COORD, KafkaError.COORDINATOR_LOAD_IN_PROGRESS):
                raise
            time.sleep(0.1)
    raise TimeoutError("the group has no coordinator")


def check(data: Path, promises: Promises, before_ns: int) -> str:
    """Start a broker on `data`; what it does not keep of what was promised before, empty for nothing."""
    acked = {(partition, offset): value for t, partition, offset, value in promises.records if t < before_ns}
    committed = {partition: offset for t, partition, offset in promises.commits if t < before_ns}
    try:
        with BrokerThread({**SMALL, **SETTINGS, "data.dir": str(data)}) as weir:
            return look(weir.bootstrap, acked, committed) if acked or committed else ""
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting is the finding
        return f"the broker does not start: {error!r}"


def look(bootstrap: str, acked: dict[tuple[int, int], bytes], committed: dict[int, int]) -> str:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
            "log_level": 3,  # not each time that the broker of an image ends
        }
    )
    try:
        found: dict[tuple[int, int], bytes] = {}
        for partition in range(PARTITIONS):
            low, high = consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=20)
            consumer.assign([TopicPartition(TOPIC, partition, low)])
            expected = low
            while expected < high:
                batch = consumer.consume(min(500, high - expected), timeout=20)
                if not batch:
                    return f"partition {partition} cannot be read at {expected}, its end is {high}"
                for message in batch:
                    if message.error() is not None or message.offset() != expected:
                        return f"partition {partition}: {message.error()} at {message.offset()}, expected {expected}"
                    found[partition, expected] = message.value() or b""
                    expected += 1
        for where, value in acked.items():
            if found.get(where) != value:
                return (
                    f"record {value[:6]!r} was acknowledged at {where}, there is {found.get(where, b'nothing')[:20]!r}"
                )
        if len(set(found.values())) != len(found):
            return "a record is there twice"
        asked = [TopicPartition(TOPIC, partition) for partition in committed]
        for answer in consumer.committed(asked, timeout=20) if asked else []:
            if answer.offset < committed[answer.partition]:
                return f"offset {committed[answer.partition]} was committed, the broker says {answer.offset}"
        return ""
    finally:
        consumer.close()


def findings(events: list[Event], promises: Promises, cuts: int, rng: random.Random, directory: Path) -> Iterator[str]:
    """What is wrong after each cut that breaks a promise."""
    for number, cut in enumerate(power_cuts(events, cuts, rng)):
        image = directory / f"image{number}"
        cut.write_image(image)
        finding = check(image, promises, cut.time_ns)
        if finding:
            yield f"{cut}: {finding}"
        shutil.rmtree(image)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.broker_power_cut")
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lying", action="store_true")
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="weir-cuts-") as directory:
        events, promises = run(Path(directory), chosen.messages, rng, lying=chosen.lying)
        print(f"{len(events)} events, {len(promises.records)} records and {len(promises.commits)} commits acknowledged")
        wrong = 0
        for finding in findings(events, promises, chosen.cuts, rng, Path(directory)):
            print(finding)
            wrong += 1
        print(f"{chosen.cuts} power cuts, {wrong} with a broken promise")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
