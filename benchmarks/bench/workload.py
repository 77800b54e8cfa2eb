"""What a benchmark run does: one structure, loaded from a TOML file (a profile) and from options, kept in the result.

Sizes are bytes, times seconds unless the name says otherwise. A rate is the sum over all producers and is the
*intended* one: the load is open-loop, a record has the moment it was due, and latency counts from that moment.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Load(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Producers: how many, and what each sends."""

    producers: int = 1  # librdkafka clients
    processes: int = 0  # client processes they are spread over; 0: as many as it takes, at most the cores
    rate: float = 0.0  # records per second over all producers; 0: as fast as the brokers take them
    ramp_to: float = 0.0  # the rate reached at the end by linear growth; 0: constant
    spike_rate: float = 0.0  # the rate in the middle third of the measured time; 0: none
    arrival: Literal["uniform", "poisson", "burst"] = "uniform"
    burst_interval_s: float = 60.0  # for "burst": all records of an interval are due at its start
    record_size: int = 1024
    key: Literal["none", "random", "sequential", "hot"] = "none"  # hot: Zipf-like, few keys carry most records
    keys: int = 10_000  # different keys
    payload: Literal["random", "json", "text", "zeros"] = "random"  # decides what compression finds
    acks: Literal["0", "1", "all"] = "all"
    idempotent: bool = False
    codec: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    linger_ms: float = 5.0
    batch_size: int = 1_000_000
    max_in_flight: int = 5
    client: dict[str, str] = {}  # further librdkafka properties, as they are


class Readers(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Consumer groups over all topics. `groups=0`: nobody reads."""

    groups: int = 0
    consumers: int = 1  # in each group
    processes: int = 0
    commit_interval_s: float = 5.0  # 0: never
    membership: Literal["group", "none"] = "group"  # none: fixed partitions, each committed in a request of its own
    start: Literal["latest", "earliest"] = "latest"
    client: dict[str, str] = {}


class Backlog(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A catch-up phase: the groups stop reading until this much is behind, then read while producing goes on."""

    bytes: int = 0  # 0: no such phase
    limit_s: float = 600.0  # catch-up is given up after this long
    produce_during: bool = True  # false: the producers stop once the backlog is there


class Workload(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One run."""

    name: str = "custom"
    text: str = ""  # one sentence: who does this, and which figure matters
    topics: int = 1
    partitions: int = 1  # of each topic
    replication_factor: int = 1
    topic_configs: dict[str, str] = {}
    load: Load = Load()
    readers: Readers = Readers()
    backlog: Backlog = Backlog()
    idle_partitions: int = 0  # further partitions that nobody uses
    idle_connections: int = 0  # further connections that say nothing after ApiVersions
    warmup_s: float = 10.0
    duration_s: float = 60.0
    seed: int = 1
