"""A consumer group of several members in processes of their own, and what they read: for runs that check completeness.

`python -m tests.long.groups BOOTSTRAP TOPIC GROUP OUT` is one member: it writes a line `partition offset value-in-
hex` for each record, commits once a second and goes on until SIGTERM.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.long.brokers import watermarks


def member(bootstrap: str, topic: str, group: str, out: Path) -> None:
    """Read as one member until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 20000,
            "reconnect.backoff.max.ms": 500,
        }
    )
    consumer.subscribe([topic])
    committed = time.monotonic()
    dirty = False
    with out.open("wb", buffering=1 << 20) as lines:
        while not stopping:
            for message in consumer.consume(5000, timeout=0.5):
                if message.error():
                    print(f"consumer: {message.error()}", file=sys.stderr, flush=True)
                    continue
                head = b"%d %d " % (message.partition() or 0, message.offset() or 0)
                lines.write(head + (message.value() or b"").hex().encode() + b"\n")
                dirty = True
            if dirty and time.monotonic() - committed > 1:
                lines.flush()
                try:
                    consumer.commit(asynchronous=False)
                    dirty = False
                except KafkaException as error:
                    # The broker is being killed: what was read stays read, the commit is tried again.
                    print(f"commit: {error}", file=sys.stderr, flush=True)
                committed = time.monotonic()
        if dirty:
            consumer.commit(asynchronous=False)
    consumer.close()


class Group:
    """Members running in the background; `wait()` returns when they have committed all that is there."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, directory: Path, *, members: int = 2) -> None:
        self.bootstrap, self.topic, self.partitions = bootstrap, topic, partitions
        self.name = f"{topic}-readers"
        self.outputs = [directory / f"member-{i}.txt" for i in range(members)]
        self.processes = []
        for i, out in enumerate(self.outputs):
            command = [sys.executable, "-m", "tests.long.groups", bootstrap, topic, self.name, str(out)]
            with (directory / f"member-{i}.err").open("wb") as err:
                self.processes.append(subprocess.Popen(command, stderr=err))

    def wait(self, timeout_s: float) -> None:
        """Wait until the group has committed the end of every partition, then end its members."""
        deadline = time.monotonic() + timeout_s
        partitions = [TopicPartition(self.topic, p) for p in range(self.partitions)]
        watcher = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.name})
        try:
            while True:
                ends = [end for _, end in watermarks(watcher, self.topic, self.partitions)]
                committed = [max(0, p.offset) for p in watcher.committed(partitions, timeout=30)]
                if committed == ends:
                    break
                if any(process.poll() is not None for process in self.processes):
                    raise RuntimeError("a member of the group ended by itself")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the group has committed {committed} of {ends}")
                time.sleep(0.5)
        finally:
            watcher.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            if process.wait(timeout=60) != 0:
                raise RuntimeError(f"a member of the group ended with {process.returncode}")

    def stop(self) -> None:
        """End members that still run."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def records(self) -> Iterator[tuple[int, int, bytes]]:
        """(partition, offset, value) as the members got them, each member in its order."""
        for out in self.outputs:
            with out.open("rb") as lines:
                for line in lines:
                    partition, offset, value = line.rstrip(b"\n").split(b" ")
                    yield int(partition), int(offset), bytes.fromhex(value.decode())


if __name__ == "__main__":
    member(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
