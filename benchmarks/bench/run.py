"""One run from end to end: topics, idle connections, the clients, what the logs hold afterwards."""

from __future__ import annotations

import secrets
import sys

from benchmarks.bench import environment, histogram
from benchmarks.bench.clients import client_cores, jobs
from benchmarks.bench.conductor import Conductor, Progress
from benchmarks.bench.errors import BenchError
from benchmarks.bench.idle import IdleConnections
from benchmarks.bench.result import Result
from benchmarks.bench.target import Target, broker_name
from benchmarks.bench.topics import Topics
from benchmarks.bench.workload import Workload


def check(workload: Workload) -> None:
    """BenchError with the key of what cannot be run, or with what is not installed."""
    histogram.require()
    load, readers = workload.load, workload.readers
    wrong = [
        ("duration_s", workload.duration_s >= 1, "at least 1"),
        ("warmup_s", workload.warmup_s >= 0, "at least 0"),
        ("topics", workload.topics >= 1, "at least 1"),
        ("partitions", workload.partitions >= 1, "at least 1"),
        ("load.producers", load.producers >= 1, "at least 1"),
        ("load.record_size", 1 <= load.record_size <= 1 << 30, "from 1 to 1 GiB"),
        ("load.rate", load.rate >= 0, "at least 0"),
        ("load.ramp_to", load.ramp_to == 0 or load.rate > 0, "used with load.rate above 0"),
        (
            "load.spike_rate",
            load.spike_rate == 0 or (load.rate > 0 and not load.ramp_to),
            "used with load.rate, no ramp",
        ),
        ("load.arrival", load.rate > 0 or load.arrival == "uniform", "uniform when load.rate is 0"),
        ("load.burst_interval_s", load.burst_interval_s > 0, "above 0"),
        ("load.keys", load.keys >= 1, "at least 1"),
        ("readers.consumers", readers.consumers >= 1, "at least 1"),
        ("backlog.bytes", workload.backlog.bytes == 0 or readers.groups > 0, "used with readers.groups above 0"),
    ]
    for key, right, expected in wrong:
        if not right:
            raise BenchError(f"{key}: must be {expected}")


def run(workload: Workload, target: Target, progress: Progress | None = None) -> Result:
    """Run one workload against one broker. BenchError says what went wrong."""
    check(workload)
    pids = target.server_pids()
    noted = environment.before()
    topics = Topics(target.bootstrap, target.client)
    mark = secrets.token_hex(4)
    names = tuple(f"weir-bench-{mark}-{i}" for i in range(workload.topics))
    idle_topic = (f"weir-bench-{mark}-idle",) if workload.idle_partitions else ()
    tell = progress or (lambda *_: None)
    tell("creating topics", None)
    created: list[str] = []
    idle = None
    warnings: list[str] = []
    try:
        created.extend(names)
        topics.create(names, workload.partitions, workload.replication_factor, workload.topic_configs)
        if idle_topic:
            created.extend(idle_topic)
            topics.create(idle_topic, workload.idle_partitions, workload.replication_factor, {})
        idle = IdleConnections(target.bootstrap, workload.idle_connections)
        work = jobs(
            workload, target.bootstrap, target.client, names, mark.encode(), f"weir-bench-{mark}", client_cores()
        )
        conductor = Conductor(workload, target, pids, tell)
        conductor.conduct(work)
        if dropped := idle.dropped():
            warnings.append(f"the broker closed {dropped} of {workload.idle_connections} idle connections")
        warnings.extend(_lost(topics, names, workload, conductor))
        warnings.extend(conductor.warnings())
        broker = target.name or broker_name(pids)
        where = environment.environment(noted, broker, pids, conductor.others_share())
        return conductor.result(where, warnings)
    finally:
        if idle is not None:
            idle.close()
        if created and not target.keep_topics:
            tell("deleting topics", None)
            if problem := topics.delete(created):
                sys.stderr.write(f"weir bench: {problem}\n")


def _lost(topics: Topics, names: tuple[str, ...], workload: Workload, conductor: Conductor) -> list[str]:
    """Whether the logs hold fewer records than were acknowledged. Retention may have dropped none of the ends."""
    if workload.load.acks == "0":
        return []
    if not topics.reachable():
        return ["what the logs hold could not be asked: no broker answers"]
    try:
        held = topics.records(names, workload.partitions)
    except BenchError as error:
        return [f"what the logs hold could not be asked: {error}"]
    acked = conductor.tally.acked_total
    if held < acked:
        return [f"LOST: {acked} records were acknowledged, the logs end at {held}"]
    return []
