"""Producers of the workload: threads that send records whose values say who sent them, and note each one's fate.

An idempotent producer may retry inside the client, so of a record it could not deliver nothing is known: every failure
is of unknown outcome, and the producer goes on as a new one, under a new epoch in the history. A plain producer makes
one attempt per send (`retries=0`), so the code that it got tells whether the record may be there; now and then it sends
the same value again, as an attempt of its own.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from benchmarks.verify.history import Outcome, Partition, Produce
from benchmarks.verify.plan import Kind, Plan
from benchmarks.verify.recorder import Recorder, silent

_SLICE_S = 0.01
_MAX_PENDING = 1000
_MAX_ATTEMPTS = 3
_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

# Of a request that was made once: these say that the records are surely not in the log. Kafka's protocol, errors.
_REFUSED = frozenset(
    {
        KafkaError.INVALID_MSG,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_RECORD,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._PURGE_QUEUE,
    }
)


def outcome_of(code: int, kind: Kind) -> Outcome:
    """What a failed delivery says of the record: surely not there, or unknown."""
    return Outcome.FAIL if kind is not Kind.IDEMPOTENT and code in _REFUSED else Outcome.UNKNOWN


@dataclass(frozen=True)
class _Sent:
    """A value under way: its operation, and which attempt at it this is."""

    operation: Produce
    attempt: int


class ProducerThread(threading.Thread):
    """Producer `number` of the run, from `start` until `stop()`; then it waits for what is under way and ends.

    `failure`: what it died of, which ends the run.
    """

    def __init__(
        self, plan: Plan, number: int, kind: Kind, partitions: Sequence[Partition], recorder: Recorder
    ) -> None:
        super().__init__(name=f"{kind.value}-{number}", daemon=True)
        self.failure: BaseException | None = None
        self._plan, self._number, self._kind, self._recorder = plan, number, kind, recorder
        self._partitions = partitions
        self._rng = random.Random(f"{plan.seed} producer {number}")
        self._filler = self._rng.randbytes(plan.record_bytes).hex().encode()
        self._stopping = threading.Event()
        self._epoch = 0
        self._next: dict[Partition, int] = dict.fromkeys(partitions, 0)
        self._again: deque[_Sent] = deque(maxlen=_MAX_PENDING)
        self._pending = 0
        self._broken = False
        self._producer = self._connect()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        try:
            self._send_until_stopped()
            self._close(self._plan.heal_timeout_s)
        except BaseException as error:  # noqa: BLE001 - handed to the conductor of the run
            self.failure = error

    def _send_until_stopped(self) -> None:
        per_s = self._plan.rate_per_s / self._plan.producers
        due, last_s = 0.0, time.monotonic()
        while not self._stopping.wait(_SLICE_S):
            now_s = time.monotonic()
            # What an outage held up is not made up for: a second of arrears at most.
            due, last_s = min(due + (now_s - last_s) * per_s, max(1.0, per_s)), now_s
            while due >= 1 and self._pending < _MAX_PENDING and not self._broken:
                self._send_next()
                due -= 1
            self._poll(0)
            if self._broken:
                self._renew()

    def _send_next(self) -> None:
        if self._again and self._rng.random() < 0.5:
            again = self._again.popleft()
            self._send(again.operation.partition, again.operation.values[0], -1, again.attempt + 1)
            return
        partition = self._rng.choice(self._partitions)
        sequence = self._next[partition]
        self._next[partition] = sequence + 1
        place = f"{partition.topic.rpartition('-')[2]}/{partition.index}"
        head = f"{self._kind.value} {self._number}.{self._epoch} {place} {sequence} #".encode()
        size = self._rng.randint(40, self._plan.record_bytes) - len(head)
        self._send(partition, head + self._filler[: max(0, size)], sequence, 1)

    def _send(self, partition: Partition, value: bytes, sequence: int, attempt: int) -> None:
        operation = Produce(client=self.name, partition=partition, values=(value,))
        if self._kind is Kind.IDEMPOTENT:
            operation.producer_id, operation.producer_epoch = self._number, self._epoch
            operation.base_sequence = sequence
        began_s = self._recorder.now_s()
        delivered = functools.partial(self._delivered, _Sent(operation, attempt), self._epoch)
        try:
            self._producer.produce(partition.topic, value, partition=partition.index, on_delivery=delivered)
        except BufferError:
            self._poll(0.05)  # never queued: nothing to record
            return
        except KafkaException as error:  # a producer that failed for good
            self._recorder.client_error(self.name, error.args[0].name())
            self._broken = True
            return
        self._pending += 1
        self._recorder.invoke(operation, began_s)

    def _delivered(self, sent: _Sent, epoch: int, error: KafkaError | None, message: Message) -> None:
        self._pending -= 1
        operation = sent.operation
        if error is None:
            operation.base_offset = message.offset()
            outcome, note = Outcome.OK, ""
        else:
            outcome, note = outcome_of(error.code(), self._kind), error.name()
            if self._kind is Kind.IDEMPOTENT:
                self._broken = self._broken or epoch == self._epoch
            elif sent.attempt < _MAX_ATTEMPTS and self._rng.random() < 0.5:
                self._again.append(sent)
        self._recorder.end(operation, outcome, note)
        self._recorder.produced(outcome)

    def _renew(self) -> None:
        """Go on as another producer: the old one's records in the queue are given up."""
        self._close(0)
        self._epoch += 1
        self._next = dict.fromkeys(self._partitions, 0)
        self._broken = False
        self._producer = self._connect()

    def _poll(self, timeout_s: float) -> None:
        """Serve callbacks. The client raises an idempotent producer's fatal error here, once."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as error:
            if not error.args[0].fatal():
                raise
            self._told(error.args[0])

    def _flush(self, timeout_s: float) -> None:
        """Until nothing is under way, the producer is broken or the time is up."""
        deadline_s = time.monotonic() + timeout_s
        while self._pending and time.monotonic() < deadline_s:
            self._poll(0.1)

    def _close(self, patience_s: float) -> None:
        self._flush(0 if self._broken else patience_s)
        if self._pending:
            self._producer.purge()
            self._flush(5)
        self._pending = 0  # what has no report by now stays of unknown outcome

    def _connect(self) -> Producer:
        config: dict[str, Any] = {
            "bootstrap.servers": self._plan.bootstrap,
            "client.id": f"weir-verify-{self.name}",
            "linger.ms": self._rng.choice((0, 5, 20)),
            "compression.type": self._rng.choice(_CODECS),
            "acks": 1 if self._kind is Kind.ONE else -1,
            "request.timeout.ms": 5_000,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "logger": silent(),
            "error_cb": self._told,
        }
        if self._kind is Kind.IDEMPOTENT:
            config |= {"enable.idempotence": True, "enable.gapless.guarantee": True, "message.timeout.ms": 120_000}
        else:
            config |= {"retries": 0, "message.timeout.ms": 15_000}
        return Producer(config | self._plan.client)

    def _told(self, error: KafkaError) -> None:
        self._recorder.client_error(self.name, error.name())
        if error.fatal():
            self._broken = True
