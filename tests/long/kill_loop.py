"""`python -m tests.long.kill_loop --rounds 50`: kill -9 under load, then every record is checked.

Idempotent producers in processes of their own write numbered records to several partitions while the broker is
killed with -9 at random times and started again; with --pause the object store is stopped for a while in the
middle. At the end each partition is read from offset 0: every acknowledged record must be there exactly once, at
its acknowledged offset and in order; nothing that was refused for good may be there; no record may be there twice;
offsets have no gaps.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from tests.long.brokers import Broker, add_arguments, create_topic, running, watermarks
from tests.services import S3Service

TOPIC = "kill-loop"
Key = tuple[int, int, int]  # writer, partition, sequence


@dataclass
class Fates:
    """What the writers were told about each record."""

    acknowledged: dict[Key, int] = field(default_factory=dict)
    refused: set[Key] = field(default_factory=set)
    unknown: set[Key] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)

    def read(self, writer: int, path: Path) -> None:
        """Take in one writer's log."""
        for line in path.read_text().splitlines():
            kind, partition, sequence, detail = line.split()
            key = (writer, int(partition), int(sequence))
            if kind == "A":
                self.acknowledged[key] = int(detail)
            else:
                (self.refused if kind == "R" else self.unknown).add(key)
                self.errors[detail] += 1


def read_back(bootstrap: str, partitions: int) -> dict[int, list[tuple[int, Key]]]:
    """(offset, key) of every record of each partition, in the order a consumer gets them."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    ends = {}
    for p, (low, high) in enumerate(watermarks(consumer, TOPIC, partitions)):
        if low != 0:
            raise SystemExit(f"partition {p} starts at {low}: nothing may be deleted during the run")
        ends[p] = high
    consumer.assign([TopicPartition(TOPIC, p, 0) for p in range(partitions)])
    found: dict[int, list[tuple[int, Key]]] = {p: [] for p in range(partitions)}
    wanted = sum(ends.values())
    count, deadline = 0, time.monotonic() + 120
    while count < wanted and time.monotonic() < deadline:
        for message in consumer.consume(10000, timeout=1):
            if message.error():
                raise SystemExit(f"read back: {message.error()}")
            writer, partition, sequence = (int(x) for x in (message.key() or b"").split(b"-"))
            if not (message.value() or b"").startswith(message.key() or b"?"):
                raise SystemExit(f"the value at {message.partition()}/{message.offset()} is not what was written")
            found[message.partition() or 0].append((message.offset() or 0, (writer, partition, sequence)))
            count += 1
            deadline = time.monotonic() + 120
    consumer.close()
    if count != wanted:
        raise SystemExit(f"only {count} of {wanted} records could be read back")
    return found


def violations(fates: Fates, found: dict[int, list[tuple[int, Key]]]) -> list[str]:
    """Every promise that was broken, in words."""
    broken = []
    places: dict[Key, list[int]] = {}
    for partition, records in found.items():
        if [offset for offset, _ in records] != list(range(len(records))):
            broken.append(f"partition {partition}: offsets have gaps or are out of order")
        last: dict[int, int] = {}
        for offset, key in records:
            if key[1] != partition:
                broken.append(f"{key} was written to another partition than {partition}")
            places.setdefault(key, []).append(offset)
            if key[2] <= last.get(key[0], -1):
                broken.append(f"partition {partition}, writer {key[0]}: {key[2]} at {offset} after {last[key[0]]}")
            last[key[0]] = key[2]
    for key, offset in fates.acknowledged.items():
        if places.get(key) != [offset]:
            broken.append(f"{key} acknowledged at {offset}, found at {places.get(key, 'no place')}")
    broken += [f"{key} was refused and is there" for key in fates.refused if key in places]
    broken += [f"{key} is there {len(at)} times" for key, at in places.items() if len(at) > 1]
    return broken


def start_writers(bootstrap: str, directory: Path, arguments: argparse.Namespace) -> list[subprocess.Popen[bytes]]:
    processes = []
    for writer in range(arguments.writers):
        command = [sys.executable, "-m", "tests.long.writer", bootstrap, TOPIC, str(arguments.partitions)]
        command += [str(writer), str(arguments.rate), str(directory / f"writer-{writer}.log")]
        with (directory / f"writer-{writer}.err").open("wb") as err:
            processes.append(subprocess.Popen(command, stderr=err))
    return processes


def acknowledged(directory: Path, writers: int) -> int:
    """Bytes in the writers' logs: a cheap sign of progress."""
    return sum((directory / f"writer-{w}.log").stat().st_size for w in range(writers))


def kill_and_restart(broker: Broker, rng: random.Random, arguments: argparse.Namespace) -> float:
    """One round: some load, kill -9, start again; the seconds the start took."""
    time.sleep(rng.uniform(arguments.least, arguments.most))
    broker.kill9()
    time.sleep(rng.choice((0.0, 0.0, 0.3)))
    started = time.monotonic()
    broker.start()
    return time.monotonic() - started


def pause_store(service: S3Service, seconds: float, directory: Path, writers: int) -> None:
    """The store hangs for a while; afterwards the writers must get on."""
    service.pause()
    time.sleep(seconds)
    service.resume()
    before, deadline = acknowledged(directory, writers), time.monotonic() + 60
    while acknowledged(directory, writers) <= before:
        if time.monotonic() > deadline:
            raise SystemExit("no record was acknowledged in the 60 s after the store came back")
        time.sleep(0.2)


def load(broker: Broker, service: S3Service | None, directory: Path, arguments: argparse.Namespace) -> list[float]:
    """Writers and kills; the seconds each restart took. The writers have ended and flushed when it returns."""
    rng = random.Random(arguments.seed)
    writers = start_writers(broker.bootstrap, directory, arguments)
    starts = []
    try:
        for number in range(arguments.rounds):
            starts.append(kill_and_restart(broker, rng, arguments))
            print(f"round {number + 1}: up again in {starts[-1]:.2f} s", flush=True)
            if service is not None and number == arguments.rounds // 2 and arguments.pause:
                print(f"the store stops for {arguments.pause:.0f} s", flush=True)
                pause_store(service, arguments.pause, directory, arguments.writers)
        time.sleep(arguments.least)
        for process in writers:
            process.send_signal(signal.SIGTERM)
        for process in writers:
            process.wait(timeout=240)
    finally:
        for process in writers:
            if process.poll() is None:
                process.kill()
                process.wait()
    return starts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.kill_loop", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--writers", type=int, default=2, help="producer processes")
    parser.add_argument("--rate", type=int, default=2000, help="records a second of each writer")
    parser.add_argument("--least", type=float, default=0.5, help="seconds of load before a kill, at least")
    parser.add_argument("--most", type=float, default=3.0, help="... and at most")
    parser.add_argument("--pause", type=float, default=20, help="seconds the store is stopped half way (minio, ceph)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with running(arguments) as (broker, service, directory):
        create_topic(broker.bootstrap, TOPIC, arguments.partitions)
        starts = load(broker, service, directory, arguments)
        fates = Fates()
        for writer in range(arguments.writers):
            fates.read(writer, directory / f"writer-{writer}.log")
        found = read_back(broker.bootstrap, arguments.partitions)
        broken = violations(fates, found)
        total = sum(len(records) for records in found.values())
        print(
            f"{arguments.rounds} kills, {len(fates.acknowledged)} records acknowledged, {len(fates.refused)} refused, "
            f"{len(fates.unknown)} unknown {dict(fates.errors)}, {total} in the log; restart "
            f"{min(starts):.2f} to {max(starts):.2f} s; {len(broken)} violations"
        )
        for line in broken[:20]:
            print("VIOLATION:", line)
        if broken or not fates.acknowledged:
            raise SystemExit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
