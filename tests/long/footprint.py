"""`python -m tests.long.footprint`: start-up time, resident memory, and what idle partitions cost.

Measures, each on a fresh directory and as the median of --repeats: the time from exec to the first acknowledged
record; resident memory right after it; with --partitions idle partitions (1,000 per topic, one record in one of a
hundred), the memory they add and the time a restart takes to the first acknowledged record. `--limits` makes
exceeding the product's targets an error.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.parity import apis, batches
from tests.parity.wire import Connection
from tests.services import KafkaProcess, WeirProcess

LIMITS = {"start_s": 1.0, "memory_mib": 120.0, "idle_memory_mib": 100.0, "idle_start_s": 5.0}
PER_TOPIC = 1000


def make(kind: str, directory: Path, python: str) -> KafkaProcess | WeirProcess:
    """A broker of this kind that is not started yet."""
    if kind == "kafka":
        return KafkaProcess(directory)
    return WeirProcess(directory, python=python)


def memory_mib(pid: int) -> float:
    """Resident set of a process, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no VmRSS of {pid}")


def _request(port: int, api_key: int, version: int, **values: object) -> dict[str, object]:
    connection = Connection("127.0.0.1", port)
    try:
        answer: dict[str, object] = connection.call(api_key, version, **values)
        return answer
    finally:
        connection.close()


def first_ack(port: int, topic: str, *, create: bool) -> None:
    """Produce one record, retrying until it is acknowledged; a raw client, so that no client's start-up is measured."""
    deadline = time.monotonic() + 120
    wanted = {"name": topic, "num_partitions": 1, "replication_factor": 1}
    data = [{"name": topic, "partition_data": [{"index": 0, "records": batches.batch()}]}]
    while time.monotonic() < deadline:
        try:
            if create:
                _request(port, apis.CREATE_TOPICS, 5, topics=[wanted], timeout=10000)
                create = False
            answer = _request(port, apis.PRODUCE, 9, transactional_id=None, acks=-1, timeout=10000, topic_data=data)
            code = answer["responses"][0]["partition_responses"][0]["error_code"]  # type: ignore[index]
        except (OSError, KeyError):
            time.sleep(0.005)
            continue
        if code == "none":
            return
        time.sleep(0.005)
    raise TimeoutError(f"no record was acknowledged on {topic}")


def timed_start(broker: KafkaProcess | WeirProcess, topic: str, *, create: bool) -> float:
    """Seconds from starting the process to the first acknowledged record. Kafka's storage is formatted before."""
    if isinstance(broker, KafkaProcess) and create:
        broker.start()
        broker.stop()
    started = time.monotonic()
    broker.child.start()
    first_ack(broker.port, topic, create=create)
    return time.monotonic() - started


def make_partitions(bootstrap: str, count: int) -> None:
    """Idle partitions; every hundredth has one record, so that they are not only names."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topics = [NewTopic(f"idle-{i}", PER_TOPIC, 1) for i in range(count // PER_TOPIC)]
    for topic in topics:
        admin.create_topics([topic], request_timeout=120)[topic.topic].result(timeout=120)
    producer = Producer({"bootstrap.servers": bootstrap})
    failed: list[str] = []
    for topic in topics:
        for partition in range(0, PER_TOPIC, 100):
            producer.produce(
                topic.topic,
                b"x",
                partition=partition,
                on_delivery=lambda e, m: failed.append(str(e)) if e else None,
            )
    left = producer.flush(120)
    if failed or left:
        raise RuntimeError(f"{len(failed)} records failed ({failed[:1]}), {left} not acknowledged")


def measure(kind: str, directory: Path, partitions: int, python: str) -> dict[str, float]:
    """One run; see the module's text."""
    broker = make(kind, directory, python)
    try:
        found = {"start_s": timed_start(broker, "first", create=True)}
        time.sleep(1)
        found["memory_mib"] = memory_mib(broker.pid)
        if partitions:
            make_partitions(broker.bootstrap, partitions)
            broker.child.stop(timeout_s=60)
            found["idle_start_s"] = timed_start(broker, "first", create=False)
            time.sleep(1)
            found["idle_memory_mib"] = memory_mib(broker.pid) - found["memory_mib"]
    finally:
        broker.stop()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.footprint", description=__doc__)
    parser.add_argument("--broker", choices=("weir", "kafka"), default="weir")
    parser.add_argument("--partitions", type=int, default=10_000, help="idle partitions (0: leave that part out)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="Weir's Python. One without the tests' libraries starts faster: kio imports hypothesis where it is there",
    )
    parser.add_argument("--limits", action="store_true", help="fail when a target is missed")
    arguments = parser.parse_args()
    runs = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory(prefix="weir-footprint-") as directory:
            runs.append(measure(arguments.broker, Path(directory), arguments.partitions, arguments.python))
    missed = 0
    for name in runs[0]:
        values = [run[name] for run in runs]
        middle = statistics.median(values)
        over = middle > LIMITS[name]
        missed += over
        spread = ", ".join(f"{v:.2f}" for v in values)
        print(f"{name:16} {middle:8.2f}   target {LIMITS[name]:g}{'  MISSED' if over else ''}   ({spread})")
    return 1 if missed and arguments.limits else 0


if __name__ == "__main__":
    sys.exit(main())
