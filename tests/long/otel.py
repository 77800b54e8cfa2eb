"""`python -m tests.long.otel --spans 200000`: OpenTelemetry spans as OTLP through a broker that is killed.

A span exporter of the SDK serialises each batch as an OTLP `ExportTraceServiceRequest` (protobuf) and produces it,
idempotently; the SDK's batch processor drives it. The broker is killed with -9 in the middle and started again. A
consumer group decodes every message: all spans must be there once, their sequence numbers in order within each
partition.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tests.long.brokers import Broker, add_arguments, create_topic, running
from tests.long.groups import Group

TOPIC = "otlp_spans"
SERVICES = 4


class KafkaSpanExporter(SpanExporter):
    """Produces each batch of spans as one OTLP message, keyed by service; success is the broker's acknowledgement."""

    def __init__(self, bootstrap: str, service: str) -> None:
        self.service = service
        self.failures: list[str] = []
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "compression.type": "zstd",
                "linger.ms": 5,
                "message.timeout.ms": 300000,
                "reconnect.backoff.max.ms": 500,
            }
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called by the SDK's batch processor, one batch at a time."""
        self.producer.produce(TOPIC, encode_spans(spans).SerializeToString(), self.service, on_delivery=self._done)
        self.producer.poll(0)
        return SpanExportResult.SUCCESS if not self.failures else SpanExportResult.FAILURE

    def _done(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(str(error))

    def shutdown(self) -> None:
        """Wait for what is under way."""
        left = self.producer.flush(120)
        if left:
            self.failures.append(f"{left} batches were not acknowledged")

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Wait for what is under way, for at most this long."""
        return bool(self.producer.flush(timeout_millis / 1000) == 0)


class Service:
    """One instrumented program: its tracer provider and `count` numbered spans, made in a thread of its own."""

    def __init__(self, bootstrap: str, number: int, count: int) -> None:
        self.count = count
        self.made = 0
        self.exporter = KafkaSpanExporter(bootstrap, f"service-{number}")
        self.provider = TracerProvider(resource=Resource.create({"service.name": f"service-{number}"}))
        # The SDK drops spans when its queue is full: this one holds every span of the run.
        self.processor = BatchSpanProcessor(
            self.exporter, max_queue_size=self.count + 1, max_export_batch_size=256, schedule_delay_millis=50
        )
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("weir-tests")
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        """Make the spans, in order."""
        for i in range(self.count):
            with self.tracer.start_as_current_span(f"operation {i % 17}", attributes={"seq": i, "http.status": 200}):
                self.made += 1
            if i % 200 == 199:
                time.sleep(0.01)
        self.provider.shutdown()


def make_spans(broker: Broker, arguments: argparse.Namespace) -> None:
    """All services export while the broker is killed half way; a span that was not exported is an error."""
    services = [Service(broker.bootstrap, n, arguments.spans // SERVICES) for n in range(SERVICES)]
    for service in services:
        service.thread.start()
    for kill in range(arguments.kills):
        part = arguments.spans * (kill + 1) // (arguments.kills + 1)
        while sum(s.made for s in services) < part:
            time.sleep(0.05)
        broker.kill9()
        time.sleep(1)
        broker.start()
        print(f"killed and started again after {part} spans were made", flush=True)
    for service in services:
        service.thread.join()
    failures = [f for s in services for f in s.exporter.failures]
    if failures:
        raise SystemExit(f"{len(failures)} exports failed: {failures[:3]}")


def attribute(span: Any, name: str) -> int:
    return int(next(a.value.int_value for a in span.attributes if a.key == name))


def check(group: Group, spans: int) -> int:
    """Decode everything; the number of spans missing, repeated or out of order."""
    last: dict[str, int] = {}
    total = repeated = jumps = 0
    identities: set[bytes] = set()
    seen: set[tuple[int, int]] = set()
    for partition, offset, value in sorted(group.records(), key=lambda r: (r[0], r[1])):
        if (partition, offset) in seen:
            continue  # read twice: a member had not committed it when the group rebalanced
        seen.add((partition, offset))
        for resource in ExportTraceServiceRequest.FromString(value).resource_spans:
            name = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for span in (s for scope in resource.scope_spans for s in scope.spans):
                sequence = attribute(span, "seq")
                repeated += span.span_id + span.trace_id in identities
                identities.add(span.span_id + span.trace_id)
                jumps += sequence != last.get(name, -1) + 1
                last[name] = sequence
                total += 1
    missing = spans // SERVICES * SERVICES - len(identities)
    print(
        f"{total} spans in {len(seen)} messages: {missing} missing, {repeated} repeated, {jumps} not following "
        "the one before"
    )
    return abs(missing) + repeated + jumps


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.otel", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--spans", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--kills", type=int, default=1)
    arguments = parser.parse_args()
    with running(arguments) as (broker, _, directory):
        create_topic(broker.bootstrap, TOPIC, arguments.partitions)
        group = Group(broker.bootstrap, TOPIC, arguments.partitions, directory)
        try:
            make_spans(broker, arguments)
            group.wait(300)
        finally:
            group.stop()
        if check(group, arguments.spans):
            raise SystemExit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
