"""Plain integers that the request paths add to; `broker.metrics` turns them into Prometheus series when asked."""

from __future__ import annotations

from collections import defaultdict

from s3stream.metrics import SECONDS_BOUNDS, Histogram


class BrokerCounters:
    """One per broker. Histograms are in seconds, from the request's arrival to its answer."""

    __slots__ = (
        "fetch_cold_requests",
        "fetch_hot_requests",
        "fetch_purgatory",
        "fetch_seconds",
        "fetched_bytes",
        "produce_errors",
        "produce_held",
        "produce_requests",
        "produce_seconds",
        "produced_bytes",
        "request_errors",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: defaultdict[int, int] = defaultdict(int)
        self.request_errors = 0
        self.produce_requests = 0
        self.produce_errors = 0
        self.produce_held = 0
        self.produced_bytes = 0
        self.produce_seconds = Histogram(SECONDS_BOUNDS)
        self.fetch_hot_requests = 0
        self.fetch_cold_requests = 0
        self.fetch_purgatory = 0
        self.fetched_bytes = 0
        self.fetch_seconds = Histogram(SECONDS_BOUNDS)
