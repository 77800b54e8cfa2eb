"""Conducts one run against a cluster: topics, load, chaos, healing, the final read, deletion."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import BinaryIO

import msgspec
from confluent_kafka.admin import AdminClient

from benchmarks.verify import stored, topics
from benchmarks.verify.chaos import ChaosThread
from benchmarks.verify.consuming import Follower, ReaderThread, Rereader, Watcher
from benchmarks.verify.errors import VerifyError
from benchmarks.verify.group import Member
from benchmarks.verify.history import Partition
from benchmarks.verify.plan import Kind, Plan
from benchmarks.verify.producing import ProducerThread
from benchmarks.verify.read_back import read_back
from benchmarks.verify.recorder import Recorder

_TICK_S = 0.1
_READER_ENDS_S = 90.0  # a group member may wait for an answer of its coordinator that long

Say = Callable[[str], None]
Client = ProducerThread | ReaderThread | ChaosThread


def conduct(plan: Plan, say: Say, history: BinaryIO | None = None) -> stored.Run:
    """Make the run; `say` gets a line of progress now and then. VerifyError when it cannot be made.

    An interrupt ends the load early; what was done until then is read back and can be judged.
    """
    client = topics.admin(plan)
    topics.reach(client, plan)
    prefix = f"weir-verify-{uuid.uuid4().hex[:10]}"
    partitions = topics.create(client, plan, prefix)
    try:
        kinds = _kinds(plan, topics.replicas(client, partitions), say)
        shown = {**msgspec.to_builtins(plan), "kinds": [each.value for each in kinds], "prefix": prefix}
        recorder = Recorder(shown, history)
        _load(plan, kinds, partitions, recorder, prefix, say)
        say("the load has ended, waiting for the cluster to be whole")
        if not topics.wait_led(client, partitions, plan.heal_timeout_s):
            raise VerifyError(f"the cluster was not whole again {plan.heal_timeout_s:g} s after the load ended")
        recorder.phase(stored.HEALED)
        say("reading everything back")
        read_back(plan, partitions, recorder, f"{prefix}-group")
        recorder.phase(stored.READ_BACK)
    finally:
        _clean(plan, client, partitions, prefix, say)
    return recorder.run


def _kinds(plan: Plan, replicas: int, say: Say) -> tuple[Kind, ...]:
    """Without acks=1 where a record may be acknowledged by one replica and lost with it: that is what acks=1 means."""
    if replicas <= 1:
        return plan.kinds
    kinds = tuple(each for each in plan.kinds if each is not Kind.ONE)
    if not kinds:
        raise VerifyError(f"acks=1 promises nothing on {replicas} replicas: there is nothing to verify")
    if kinds != plan.kinds:
        say(f"left out producers with acks=1, which may lose records on {replicas} replicas")
    return kinds


def _load(
    plan: Plan, kinds: Sequence[Kind], partitions: Sequence[Partition], recorder: Recorder, prefix: str, say: Say
) -> None:
    group = f"{prefix}-group"
    producers = [
        ProducerThread(plan, number, kinds[number % len(kinds)], partitions, recorder)
        for number in range(plan.producers)
    ]
    readers: list[ReaderThread] = [
        Follower(plan, "follower", partitions, recorder, f"{prefix}-unused"),
        Rereader(plan, "rereader", partitions, recorder, f"{prefix}-unused"),
        Watcher(plan, "watcher", partitions, recorder, group),
        *(Member(plan, f"member-{number}", partitions, recorder, group) for number in range(plan.members)),
    ]
    chaos = [ChaosThread(plan, recorder)] if plan.chaos else []
    threads: list[Client] = [*producers, *readers, *chaos]
    for thread in threads:
        thread.start()
    try:
        _wait(plan, threads, recorder, say)
    except KeyboardInterrupt:
        say("interrupted: ending the load")
    finally:
        _stop(plan, chaos, producers, readers, recorder)
    _alive(threads)
    if hung := [thread.name for thread in threads if thread.is_alive()]:
        raise VerifyError(f"these clients did not end: {', '.join(hung)}")


def _stop(
    plan: Plan,
    chaos: Sequence[ChaosThread],
    producers: Sequence[ProducerThread],
    readers: Sequence[ReaderThread],
    recorder: Recorder,
) -> None:
    """First the chaos, whose last round may heal what it broke, then the producers, who wait for their answers, then
    those who read."""
    for one in chaos:
        one.stop()
    for one in chaos:
        one.join()
    for producer in producers:
        producer.stop()
    recorder.phase(stored.LOAD_ENDED)
    for producer in producers:
        producer.join(plan.heal_timeout_s + 30)
    for reader in readers:
        reader.stop()
    for reader in readers:
        reader.join(_READER_ENDS_S)


def _wait(plan: Plan, threads: Sequence[Client], recorder: Recorder, say: Say) -> None:
    end_s = time.monotonic() + plan.duration_s
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(_TICK_S, left_s))
        _alive(threads)
        silent_s = recorder.now_s() - recorder.last_ack_s
        chaos = f", chaos {len(recorder.run.chaos)} times" if plan.chaos else ""
        silence = f", none for {silent_s:.0f} s" if silent_s >= 1 else ""
        say(f"{recorder.now_s():.0f} s: {recorder.acked:,} acknowledged{silence}, {recorder.unsure:,} not{chaos}")


def _alive(threads: Sequence[Client]) -> None:
    for thread in threads:
        if thread.failure is not None:
            raise VerifyError(f"{thread.name} failed: {thread.failure!r}") from thread.failure


def _clean(plan: Plan, client: AdminClient, partitions: Sequence[Partition], prefix: str, say: Say) -> None:
    if plan.keep:
        say(f"kept the topics {prefix}-*")
        return
    for problem in topics.delete(client, partitions, f"{prefix}-group"):
        say(f"could not be deleted: {problem}")
