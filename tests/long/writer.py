"""One producer process of the kill loop: numbered records to all partitions until told to stop, each fate logged.

`python -m tests.long.writer BOOTSTRAP TOPIC PARTITIONS WRITER RATE LOG`. The log has one line per record whose fate
is known:
- `A partition sequence offset`: acknowledged,
- `R partition sequence code`: refused for good, never sent or surely not stored,
- `U partition sequence code`: outcome unknown, sent and not answered.
SIGTERM ends it after a flush.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

# Refusals after which the record is surely not in the log. librdkafka says PERSISTED status "possibly" for the others.
_DEFINITE = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._PURGE_QUEUE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_RECORD,
}


class Writer:
    """Sends `w<writer>-<partition>-<sequence>`, each partition with its own gapless sequence."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, writer: int, log: Any) -> None:
        self.topic, self.partitions, self.name, self.log = topic, partitions, writer, log
        self.next = [0] * partitions
        self.stopping = False
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 300000,
                "request.timeout.ms": 30000,
                "linger.ms": 5,
                "retry.backoff.ms": 50,
                "reconnect.backoff.max.ms": 500,
                "queue.buffering.max.messages": 20000,
                "error_cb": self.report,
            }
        )

    def report(self, error: KafkaError) -> None:
        """Connection errors are what a kill loop is made of; a fatal one ends the idempotent producer."""
        if error.fatal():
            print(f"fatal: {error}", file=sys.stderr, flush=True)
            self.stopping = True

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Log the fate of one record."""
        _, partition, sequence = (message.key() or b"").decode().split("-")
        if error is None:
            self.log.write(f"A {partition} {sequence} {message.offset()}\n")
        else:
            kind = "R" if error.code() in _DEFINITE else "U"
            self.log.write(f"{kind} {partition} {sequence} {error.name()}\n")

    def run(self, rate: int) -> None:
        """Send about `rate` records a second, in slices of 10 ms, until stopped; then flush."""
        while not self.stopping:
            started = time.monotonic()
            for _ in range(max(1, rate // 100)):
                self.send()
            self.producer.poll(0)
            time.sleep(max(0.0, 0.01 - (time.monotonic() - started)))
        left = self.producer.flush(200)
        print(f"left {left}", file=sys.stderr, flush=True)

    def send(self) -> None:
        partition = min(range(self.partitions), key=self.next.__getitem__)
        sequence = self.next[partition]
        key = f"{self.name}-{partition}-{sequence}"
        try:
            self.producer.produce(
                self.topic, key.encode() + b" " + b"x" * 200, key, partition, on_delivery=self.delivered
            )
        except BufferError:
            self.producer.poll(0.1)
            return
        except KafkaException as error:
            print(f"produce: {error}", file=sys.stderr, flush=True)
            self.stopping = True
            return
        self.next[partition] += 1


def main() -> int:
    bootstrap, topic, partitions, writer, rate, path = sys.argv[1:7]
    with open(path, "w", buffering=1 << 16) as log:
        one = Writer(bootstrap, topic, int(partitions), int(writer), log)

        def stop(number: int, frame: object) -> None:
            one.stopping = True

        signal.signal(signal.SIGTERM, stop)
        one.run(int(rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
