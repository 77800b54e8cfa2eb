"""The metrics of the broker: each declared once with unit, labels and text, read from plain integers when scraped.

The paths that serve requests only add to integers (`broker.counters`, `s3stream.metrics`, the store's counters); this
module gives them their names. Names end in their unit (`_bytes`, `_seconds`) and counters in `_total`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from broker.cluster.image import ClusterImage
from broker.cluster.rows import NO_LEADER
from broker.counters import BrokerCounters
from broker.health import LoopLag
from broker.http import Page
from broker.lag import GroupLag
from protocol.apis import SERVED
from s3stream.arena import Arena
from s3stream.engine import StreamEngine
from s3stream.metrics import Histogram
from s3stream.stores.instrumented import StoreCounters


@dataclass(slots=True)
class Sources:
    """Where the numbers are. `connections` gives those open now."""

    counters: BrokerCounters
    engine: StreamEngine
    arena: Arena
    image: Callable[[], ClusterImage]
    lag: LoopLag
    connections: Callable[[], int]
    store: StoreCounters | None = None
    group_lag: Callable[[], Sequence[GroupLag]] = tuple


Number = int | float
Sample = tuple[Sequence[str], Number]


class Declared(NamedTuple):
    """A metric with one kind of reader: a single number, numbers by label values, or a histogram."""

    kind: str
    name: str
    doc: str
    labels: tuple[str, ...]
    read: Callable[[Sources], Iterable[Sample]] | None
    histogram: Callable[[Sources], Histogram] | None


def _counter(name: str, doc: str, read: Callable[[Sources], Number]) -> Declared:
    return Declared("counter", name, doc, (), lambda sources: [((), read(sources))], None)


def _gauge(name: str, doc: str, read: Callable[[Sources], Number]) -> Declared:
    return Declared("gauge", name, doc, (), lambda sources: [((), read(sources))], None)


def _histogram(name: str, doc: str, read: Callable[[Sources], Histogram]) -> Declared:
    return Declared("histogram", name, doc, (), None, read)


def _requests(sources: Sources) -> Iterable[Sample]:
    for key, count in sorted(sources.counters.requests.items()):
        yield (SERVED[key].name if key in SERVED else str(key),), count


def _store_requests(sources: Sources) -> Iterable[Sample]:
    if sources.store is not None:
        for name, operation in sources.store.by_name().items():
            for outcome, count in sorted(operation.outcomes.items()):
                yield (name, outcome), count


def _store_bytes(sources: Sources) -> Iterable[Sample]:
    if sources.store is not None:
        for name, operation in sources.store.by_name().items():
            yield (name,), operation.byte_count


def _store_seconds(sources: Sources) -> Iterable[Sample]:
    if sources.store is not None:
        for name, operation in sources.store.by_name().items():
            yield (name,), operation.seconds


def _group_lag_records(sources: Sources) -> Iterable[Sample]:
    for lag in sources.group_lag():
        yield (lag.group_id, lag.topic), lag.records


def _group_lag_seconds(sources: Sources) -> Iterable[Sample]:
    for lag in sources.group_lag():
        yield (lag.group_id, lag.topic), lag.seconds


def _partitions(sources: Sources) -> int:
    return sum(topic.partition_count for topic in sources.image().topics.values())


def _unled(sources: Sources) -> int:
    return sum(topic.leader_ids.count(NO_LEADER) for topic in sources.image().topics.values())


METRICS: tuple[Declared, ...] = (
    Declared("counter", "weir_requests_total", "Requests by API.", ("api",), _requests, None),
    _counter(
        "weir_request_errors_total",
        "Requests that were malformed; their connections were closed.",
        lambda s: s.counters.request_errors,
    ),
    _gauge("weir_connections", "Open client connections.", lambda s: s.connections()),
    _counter("weir_produce_requests_total", "Produce requests.", lambda s: s.counters.produce_requests),
    _counter(
        "weir_produce_errors_total", "Partitions of produce requests refused.", lambda s: s.counters.produce_errors
    ),
    _counter(
        "weir_produce_held_total",
        "Produce requests that had to wait for room in the write-ahead log or in memory.",
        lambda s: s.counters.produce_held,
    ),
    _counter("weir_produced_bytes_total", "Bytes of record batches taken.", lambda s: s.counters.produced_bytes),
    _histogram(
        "weir_produce_seconds",
        "From the arrival of a produce request to its answer.",
        lambda s: s.counters.produce_seconds,
    ),
    _counter(
        "weir_fetch_hot_requests_total",
        "Fetch requests served from memory alone.",
        lambda s: s.counters.fetch_hot_requests,
    ),
    _counter(
        "weir_fetch_cold_requests_total", "Fetch requests that read objects.", lambda s: s.counters.fetch_cold_requests
    ),
    _gauge("weir_fetches_waiting", "Fetch requests that wait for records.", lambda s: s.counters.fetch_purgatory),
    _counter("weir_fetched_bytes_total", "Bytes of record batches sent.", lambda s: s.counters.fetched_bytes),
    _histogram(
        "weir_fetch_seconds",
        "From the arrival of a fetch request to its answer, long polls included.",
        lambda s: s.counters.fetch_seconds,
    ),
    _counter(
        "weir_wal_groups_total", "Groups of appends made durable together.", lambda s: s.engine.metrics.wal_groups
    ),
    _counter(
        "weir_wal_failures_total", "Failed writes of the write-ahead log.", lambda s: s.engine.metrics.wal_failures
    ),
    _histogram("weir_wal_group_entries", "Appends in one group.", lambda s: s.engine.metrics.wal_group_entries),
    _histogram(
        "weir_wal_ack_seconds",
        "From the oldest append of a group to its durability.",
        lambda s: s.engine.metrics.ack_seconds,
    ),
    _counter("weir_appends_total", "Record batches appended.", lambda s: s.engine.metrics.appends),
    _counter("weir_append_bytes_total", "Bytes appended.", lambda s: s.engine.metrics.append_bytes),
    _gauge("weir_tail_bytes", "Durable bytes that are in no object yet.", lambda s: s.engine.tail_bytes),
    _gauge("weir_tail_cache_bytes", "Bytes of the newest records in memory.", lambda s: s.engine.tail.size_bytes),
    _gauge("weir_block_cache_bytes", "Bytes of blocks of objects in memory.", lambda s: s.engine.blocks.bytes_used),
    _gauge("weir_arena_bytes", "Bytes of request memory in use.", lambda s: s.arena.in_use_bytes),
    _counter(
        "weir_back_pressure_total", "Times that appends had to wait.", lambda s: s.engine.metrics.back_pressure_begins
    ),
    _counter(
        "weir_back_pressure_seconds_total",
        "Time in which appends had to wait.",
        lambda s: s.engine.metrics.back_pressure_seconds,
    ),
    _counter("weir_uploads_total", "Committed uploads.", lambda s: s.engine.metrics.uploads),
    _counter("weir_upload_objects_total", "Objects written by uploads.", lambda s: s.engine.metrics.upload_objects),
    _counter("weir_upload_bytes_total", "Bytes written by uploads.", lambda s: s.engine.metrics.upload_bytes),
    _counter(
        "weir_upload_failures_total",
        "Tries of uploads that failed and were repeated.",
        lambda s: s.engine.metrics.upload_failures,
    ),
    _histogram("weir_upload_seconds", "Duration of an upload.", lambda s: s.engine.metrics.upload_seconds),
    _counter(
        "weir_hot_reads_total", "Reads served from the newest records in memory.", lambda s: s.engine.metrics.hot_reads
    ),
    _counter("weir_cold_reads_total", "Reads that needed objects.", lambda s: s.engine.metrics.cold_reads),
    _histogram(
        "weir_cold_read_seconds",
        "Duration of a read that needed objects.",
        lambda s: s.engine.metrics.cold_read_seconds,
    ),
    _counter("weir_block_cache_hits_total", "Blocks found in memory.", lambda s: s.engine.metrics.block_cache_hits),
    _counter(
        "weir_block_cache_misses_total", "Blocks read from the store.", lambda s: s.engine.metrics.block_cache_misses
    ),
    _counter(
        "weir_read_ahead_wasted_total",
        "Blocks read ahead and evicted unread.",
        lambda s: s.engine.metrics.read_ahead_wasted,
    ),
    _counter(
        "weir_corrupt_blocks_total", "Blocks whose checksum was wrong.", lambda s: s.engine.metrics.corrupt_blocks
    ),
    _counter("weir_retention_bytes_total", "Bytes dropped by retention.", lambda s: s.engine.metrics.retention_bytes),
    _counter(
        "weir_objects_deleted_total", "Objects removed from the store.", lambda s: s.engine.metrics.gc_objects_deleted
    ),
    _counter("weir_duty_failures_total", "Failed rounds of background work.", lambda s: s.engine.metrics.duty_failures),
    Declared(
        "counter",
        "weir_store_requests_total",
        "Requests to the object store by class and outcome.",
        ("operation", "outcome"),
        _store_requests,
        None,
    ),
    Declared(
        "counter",
        "weir_store_bytes_total",
        "Bytes sent to and received from the object store.",
        ("operation",),
        _store_bytes,
        None,
    ),
    Declared(
        "counter",
        "weir_store_seconds_total",
        "Time spent in requests to the object store.",
        ("operation",),
        _store_seconds,
        None,
    ),
    _gauge("weir_topics", "Topics.", lambda s: len(s.image().topics)),
    _gauge("weir_partitions", "Partitions.", _partitions),
    _gauge("weir_partitions_without_leader", "Partitions whose log is not open.", _unled),
    _gauge("weir_streams_open", "Streams open in the engine.", lambda s: s.engine.streams_open),
    Declared(
        "gauge",
        "weir_group_lag_records",
        "Records that a group has not committed yet, over the partitions of a topic.",
        ("group", "topic"),
        _group_lag_records,
        None,
    ),
    Declared(
        "gauge",
        "weir_group_lag_seconds",
        "Age of the oldest record that a group has not committed yet, the worst partition of a topic.",
        ("group", "topic"),
        _group_lag_seconds,
        None,
    ),
    _gauge("weir_event_loop_lag_seconds", "How late the event loop ran its last timer.", lambda s: s.lag.last_s),
    _gauge("weir_event_loop_lag_max_seconds", "The largest such delay since the start.", lambda s: s.lag.max_s),
)


class BrokerCollector(Collector):
    """Turns the declared metrics into Prometheus families on each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """One family per declared metric."""
        for declared in METRICS:
            yield _family(declared, self._sources)


def _family(declared: Declared, sources: Sources) -> Metric:
    if declared.histogram is not None:
        found = declared.histogram(sources)
        bounds = [*(str(float(bound)) for bound in found.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(found.counts), strict=True))
        return HistogramMetricFamily(declared.name, declared.doc, buckets=buckets, sum_value=found.total)
    family: CounterMetricFamily | GaugeMetricFamily
    if declared.kind == "counter":
        family = CounterMetricFamily(declared.name, declared.doc, labels=declared.labels)
    else:
        family = GaugeMetricFamily(declared.name, declared.doc, labels=declared.labels)
    for labels, value in declared.read(sources) if declared.read is not None else ():
        family.add_metric(labels, value)
    return family


def registry_of(sources: Sources) -> CollectorRegistry:
    """A registry with the broker's metrics and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BrokerCollector(sources))
    return registry


def metrics_page(registry: CollectorRegistry) -> Page:
    """`/metrics` in the Prometheus text format."""
    return Page(HTTPStatus.OK, generate_latest(registry), CONTENT_TYPE_LATEST)


def documentation() -> str:
    """The metrics as a Markdown page: METRICS.md beside this file."""
    rows = [
        "# Metrics",
        "",
        "Served at `/metrics` of the HTTP server (`http.host`, `http.port`) in the Prometheus text format.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for declared in METRICS:
        labels = ", ".join(f"`{label}`" for label in declared.labels)
        rows.append(f"| `{declared.name}` | {declared.kind} | {labels} | {declared.doc} |")
    return "\n".join(rows) + "\n"
