"""The settings of a broker: one frozen structure of sections, and for every field its dotted name, bounds and meaning.

Settings that Apache Kafka has keep Kafka's names and meaning; ours are named by what they govern (`wal.*`, `store.*`).
Units stand last in the attribute names. A default that differs from Kafka's says so in its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from broker.settings.keys import INT_MAX, LONG_MAX, Key, Listener, Setting, declared

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

TIMESTAMP_TYPES = ("CreateTime", "LogAppendTime")
COMPRESSION_TYPES = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the sections: values only."""


class BrokerSection(Section, frozen=True, kw_only=True):
    """Who this broker is and where its local files are."""

    node_id: Annotated[
        int, Key("node.id", "Number of this broker in the cluster.", aliases=("broker.id",), least=0)
    ] = 1
    cluster_id: Annotated[
        str | None,
        Key(
            "cluster.id",
            "Identity of the cluster, 22 characters of URL-safe base64. Chosen at the first start and kept in the "
            "metadata; a different value later refuses the start.",
        ),
    ] = None
    rack: Annotated[str | None, Key("broker.rack", "Rack or zone of this broker, told to clients.")] = None
    data_dir: Annotated[
        str,
        Key(
            "data.dir",
            "Folder of the metadata, the write-ahead log and, without `store.url`, the objects; `memory:` keeps "
            "everything in memory and loses it at the end of the process.",
        ),
    ] = "./weir-data"


class NetworkSection(Section, frozen=True, kw_only=True):
    """Connections and requests."""

    listeners: Annotated[
        tuple[Listener, ...],
        Key(
            "listeners",
            "Addresses to listen on. Only PLAINTEXT is served. Kafka listens on every interface by default; this "
            "broker listens on loopback until told otherwise, since it has no authentication yet.",
        ),
    ] = (Listener("PLAINTEXT", "127.0.0.1", 9092),)
    advertised_listeners: Annotated[
        tuple[Listener, ...],
        Key("advertised.listeners", "Addresses that clients are told to connect to; empty: the same as `listeners`."),
    ] = ()
    request_max_bytes: Annotated[
        int, Key("socket.request.max.bytes", "Largest request; a larger one closes the connection.", least=1 * KIB)
    ] = 100 * MIB
    listen_backlog: Annotated[
        int, Key("socket.listen.backlog.size", "Connections that the kernel queues before they are accepted.", least=1)
    ] = 1024
    connections_max_idle_ms: Annotated[
        int,
        Key("connections.max.idle.ms", "Idle connections are closed after this time; -1: never.", least=-1, long=True),
    ] = 600_000
    max_connections: Annotated[
        int,
        Key("max.connections", "Connections at one time; further ones are closed at once.", least=1, dynamic=True),
    ] = INT_MAX
    max_connections_per_ip: Annotated[
        int,
        Key(
            "max.connections.per.ip",
            "Connections of one client address at one time. In TOML its name stands in quotes.",
            least=1,
            dynamic=True,
        ),
    ] = INT_MAX
    fetch_max_bytes: Annotated[
        int, Key("fetch.max.bytes", "Most bytes of records in one Fetch answer, but for its first batch.", least=1024)
    ] = 55 * MIB
    fetch_session_slots: Annotated[
        int,
        Key("max.incremental.fetch.session.cache.slots", "Fetch sessions that are remembered; 0: none.", least=0),
    ] = 1000
    fetch_session_evict_after_ms: Annotated[
        int,
        Key(
            "fetch.session.evict.after.ms",
            "When all slots are taken, a fetch session that was not used for this time gives its slot to a newcomer. "
            "Kafka fixes it at two minutes.",
            least=0,
        ),
    ] = 120_000
    shutdown_timeout_ms: Annotated[
        int,
        Key(
            "shutdown.timeout.ms",
            "On a graceful stop, time for requests under way and for the upload of what only the WAL holds.",
            least=0,
        ),
    ] = 30_000


class TopicsSection(Section, frozen=True, kw_only=True):
    """Creation and deletion of topics."""

    num_partitions: Annotated[
        int,
        Key(
            "num.partitions",
            "Partitions of a topic that asks for no number. Kafka's default is 1; here idle partitions cost next to "
            "nothing and telemetry wants parallel readers.",
            least=1,
            most=10_000,
        ),
    ] = 4
    default_replication_factor: Annotated[
        int,
        Key(
            "default.replication.factor",
            "Replication factor shown for a topic that asks for none. The object store replicates.",
            least=1,
            most=32767,
        ),
    ] = 1
    strict_replication_factor: Annotated[
        bool,
        Key(
            "strict.replication.factor",
            "Refuse a replication factor above the number of brokers, as Kafka does. Off: any factor from 1 is "
            "accepted and shown as asked.",
        ),
    ] = False
    auto_create: Annotated[
        bool, Key("auto.create.topics.enable", "Create a topic when a client asks for metadata of an unknown one.")
    ] = True
    deletable: Annotated[bool, Key("delete.topic.enable", "Allow DeleteTopics.")] = True


class LogSection(Section, frozen=True, kw_only=True):
    """Defaults of the topic configs, under Kafka's broker-level names."""

    retention_ms: Annotated[
        int | None,
        Key(
            "log.retention.ms",
            "Records are kept this long; -1: for ever. Wins over `log.retention.minutes` and `.hours`.",
            least=-1,
            long=True,
            dynamic=True,
        ),
    ] = None
    retention_minutes: Annotated[
        int | None, Key("log.retention.minutes", "The same in minutes; wins over `log.retention.hours`.", least=-1)
    ] = None
    retention_hours: Annotated[int, Key("log.retention.hours", "The same in hours.", least=-1)] = 168
    retention_bytes: Annotated[
        int,
        Key("log.retention.bytes", "Bytes kept per partition; -1: no limit.", least=-1, long=True, dynamic=True),
    ] = -1
    retention_check_interval_ms: Annotated[
        int,
        Key("log.retention.check.interval.ms", "How often retention looks for records to drop.", least=1, long=True),
    ] = 300_000
    cleanup_policy: Annotated[
        tuple[str, ...],
        Key("log.cleanup.policy", "What happens to old records of a topic.", choices=("delete",), dynamic=True),
    ] = ("delete",)
    message_max_bytes: Annotated[
        int,
        Key(
            "message.max.bytes",
            "Largest record batch, as sent (compressed). Kafka's default is 1 MiB; traces and logs need more. The "
            "64 KiB above 16 MiB are room for headers.",
            least=0,
            dynamic=True,
        ),
    ] = 16 * MIB + 64 * KIB
    timestamp_type: Annotated[
        str,
        Key(
            "log.message.timestamp.type",
            "Whether a record keeps the time of its producer or gets the time of its append.",
            choices=TIMESTAMP_TYPES,
            dynamic=True,
        ),
    ] = "CreateTime"
    timestamp_before_max_ms: Annotated[
        int,
        Key(
            "log.message.timestamp.before.max.ms",
            "How far a record's timestamp may lie behind the broker's clock.",
            least=0,
            long=True,
            dynamic=True,
        ),
    ] = LONG_MAX
    timestamp_after_max_ms: Annotated[
        int,
        Key(
            "log.message.timestamp.after.max.ms",
            "How far a record's timestamp may lie ahead of the broker's clock.",
            least=0,
            long=True,
            dynamic=True,
        ),
    ] = 3_600_000
    compression_type: Annotated[
        str,
        Key(
            "compression.type",
            "Codec of the stored batches; `producer` keeps what the producer chose.",
            choices=COMPRESSION_TYPES,
            dynamic=True,
        ),
    ] = "producer"
    gzip_level: Annotated[
        int, Key("compression.gzip.level", "Level of gzip where the broker re-encodes.", least=-1, most=9, dynamic=True)
    ] = -1
    lz4_level: Annotated[
        int, Key("compression.lz4.level", "Accepted and shown; lz4 has one level here.", least=1, most=17, dynamic=True)
    ] = 9
    zstd_level: Annotated[
        int,
        Key(
            "compression.zstd.level",
            "Level of zstd where the broker re-encodes.",
            least=-131072,
            most=22,
            dynamic=True,
        ),
    ] = 3
    min_insync_replicas: Annotated[
        int,
        Key(
            "min.insync.replicas",
            "Accepted and shown; an acknowledged record is durable whatever this says.",
            least=1,
            dynamic=True,
        ),
    ] = 1

    @property
    def retention_effective_ms(self) -> int:
        """The one of the three that wins, in milliseconds; -1 for ever."""
        if self.retention_ms is not None:
            return self.retention_ms
        minutes = self.retention_hours * 60 if self.retention_minutes is None else self.retention_minutes
        return -1 if minutes < 0 else minutes * 60_000


class GroupsSection(Section, frozen=True, kw_only=True):
    """Consumer groups and committed offsets."""

    min_session_timeout_ms: Annotated[
        int, Key("group.min.session.timeout.ms", "Shortest session time-out that a member may ask for.", least=1)
    ] = 6000
    max_session_timeout_ms: Annotated[
        int, Key("group.max.session.timeout.ms", "Longest session time-out that a member may ask for.", least=1)
    ] = 1_800_000
    initial_rebalance_delay_ms: Annotated[
        int,
        Key(
            "group.initial.rebalance.delay.ms",
            "How long an empty group waits for more members before its first rebalance.",
            least=0,
        ),
    ] = 3000
    max_size: Annotated[int, Key("group.max.size", "Most members of one group.", least=1)] = INT_MAX
    offsets_partitions: Annotated[
        int,
        Key(
            "offsets.topic.num.partitions",
            "Partitions of `__consumer_offsets`; read when that topic is created.",
            least=1,
            most=10_000,
        ),
    ] = 50
    offsets_replication_factor: Annotated[
        int,
        Key(
            "offsets.topic.replication.factor",
            "Replication factor shown for `__consumer_offsets`. Kafka's default is 3.",
            least=1,
            most=32767,
        ),
    ] = 1
    offsets_retention_minutes: Annotated[
        int,
        Key("offsets.retention.minutes", "Committed offsets of an empty group are dropped after this time.", least=1),
    ] = 10_080
    offsets_retention_check_interval_ms: Annotated[
        int,
        Key("offsets.retention.check.interval.ms", "How often expired offsets are looked for.", least=1, long=True),
    ] = 600_000
    offset_metadata_max_bytes: Annotated[
        int, Key("offset.metadata.max.bytes", "Largest metadata text of one committed offset.", least=0)
    ] = 4096
    offset_commit_timeout_ms: Annotated[
        int,
        Key("offsets.commit.timeout.ms", "How long an offset commit may wait until it is durable.", least=1),
    ] = 5000


class WalSection(Section, frozen=True, kw_only=True):
    """The write-ahead log: what is acknowledged is durable here first."""

    directory: Annotated[str | None, Key("wal.dir", "Folder of the segment files; default `wal` in `data.dir`.")] = None
    segment_size_bytes: Annotated[
        int, Key("wal.segment.bytes", "Size of one pre-allocated segment file.", least=1 * MIB, most=1 * GIB)
    ] = 64 * MIB
    capacity_bytes: Annotated[
        int,
        Key(
            "wal.capacity.bytes",
            "Most bytes that wait in the log for their upload; when it is full, producers are slowed, then refused "
            "with a retriable error.",
            least=4 * MIB,
            long=True,
        ),
    ] = 2 * GIB
    trimmed_retention_ms: Annotated[
        int,
        Key(
            "wal.trimmed.retention.ms",
            "Segments are recycled this long after their last frame was uploaded; in memory at once.",
            least=0,
        ),
    ] = 600_000


class UploadSection(Section, frozen=True, kw_only=True):
    """From the write-ahead log to objects."""

    interval_ms: Annotated[
        int, Key("upload.interval.ms", "Records are uploaded at the latest this long after their append.", least=10)
    ] = 30_000
    size_bytes: Annotated[
        int,
        Key(
            "upload.size.bytes",
            "An upload starts as soon as this much waits; at most a quarter of `cache.tail.bytes` and a third of "
            "`upload.backlog.max.bytes`. Larger uploads are fewer requests to the store and more memory.",
            least=64 * KIB,
        ),
    ] = 32 * MIB
    backlog_max_bytes: Annotated[
        int,
        Key(
            "upload.backlog.max.bytes",
            "Most bytes in memory that wait for their upload, while the store is slow or away; then producers are "
            "slowed. As long as the store keeps up, `cache.tail.bytes` is what is used.",
            least=4 * MIB,
            long=True,
        ),
    ] = 384 * MIB
    stream_object_bytes: Annotated[
        int,
        Key(
            "upload.stream.object.bytes",
            "A partition with this much in one upload gets an object of its own; smaller ones share one.",
            least=64 * KIB,
        ),
    ] = 16 * MIB
    block_size_bytes: Annotated[
        int,
        Key(
            "object.block.bytes",
            "Target size of a block, the unit of reads from objects.",
            least=4 * KIB,
            most=64 * MIB,
        ),
    ] = 1 * MIB
    prepare_ttl_ms: Annotated[
        int, Key("object.prepare.ttl.ms", "An upload that is not committed in this time is abandoned.", least=60_000)
    ] = 3_600_000
    delete_delay_ms: Annotated[
        int, Key("object.delete.delay.ms", "Objects without live data stay this long in the store.", least=0)
    ] = 600_000


class CacheSection(Section, frozen=True, kw_only=True):
    """Memory."""

    tail_bytes: Annotated[
        int,
        Key(
            "cache.tail.bytes",
            "Newest records in memory, shared by writes, tail reads and uploads. Those that were uploaded are kept as "
            "far as this allows; consumers that are further behind read objects. More of it gains no throughput.",
            least=8 * MIB,
            long=True,
        ),
    ] = 128 * MIB
    block_bytes: Annotated[
        int, Key("cache.block.bytes", "Blocks of objects in memory for catch-up reads.", least=1 * MIB, long=True)
    ] = 64 * MIB
    chunk_size_bytes: Annotated[
        int, Key("cache.chunk.bytes", "Size of one memory chunk that requests are received into.", least=1 * MIB)
    ] = 4 * MIB
    readahead_max_bytes: Annotated[
        int, Key("cache.readahead.max.bytes", "Most bytes read ahead for one catch-up reader.", least=64 * KIB)
    ] = 16 * MIB


class StoreSection(Section, frozen=True, kw_only=True):
    """The object store."""

    url: Annotated[
        str | None,
        Key(
            "store.url",
            "`s3://bucket/prefix`, `file:///folder` or `memory:`; default: the folder `objects` in `data.dir`.",
        ),
    ] = None
    s3_endpoint: Annotated[
        str | None, Key("store.s3.endpoint", "Address of an S3-compatible store; default: AWS in `store.s3.region`.")
    ] = None
    s3_region: Annotated[str, Key("store.s3.region", "Region of the bucket; also from AWS_REGION.")] = "us-east-1"
    s3_access_key_id: Annotated[
        str | None, Key("store.s3.access.key.id", "Access key; also from AWS_ACCESS_KEY_ID.", secret=True)
    ] = None
    s3_secret_access_key: Annotated[
        str | None, Key("store.s3.secret.access.key", "Secret key; also from AWS_SECRET_ACCESS_KEY.", secret=True)
    ] = None
    s3_session_token: Annotated[
        str | None, Key("store.s3.session.token", "Session token; also from AWS_SESSION_TOKEN.", secret=True)
    ] = None
    s3_path_style: Annotated[
        bool,
        Key("store.s3.path.style", "Put the bucket in the path (most S3-compatible stores), not in the host name."),
    ] = True
    request_timeout_ms: Annotated[
        int, Key("store.request.timeout.ms", "One request to the store is given up after this time.", least=100)
    ] = 30_000
    inflight_bytes: Annotated[
        int,
        Key(
            "store.inflight.bytes",
            "Bytes of requests to the store that are under way at one time.",
            least=1 * MIB,
            long=True,
        ),
    ] = 256 * MIB


class HttpSection(Section, frozen=True, kw_only=True):
    """Metrics and health over HTTP."""

    host: Annotated[str, Key("http.host", "Address of `/metrics`, `/healthz` and `/readyz`.")] = "127.0.0.1"
    port: Annotated[
        int,
        Key(
            "http.port",
            "Its port; 0: any free one, -1: no HTTP server. A busy port is reported and left alone.",
            least=-1,
            most=65535,
        ),
    ] = 9644
    health_max_lag_ms: Annotated[
        int, Key("http.health.max.lag.ms", "`/healthz` fails when the event loop was last late by more.", least=1)
    ] = 5000


class LoggingSection(Section, frozen=True, kw_only=True):
    """What the broker says about itself."""

    level: Annotated[
        str, Key("logging.level", "Least level that is written.", choices=("debug", "info", "warning", "error"))
    ] = "info"
    format: Annotated[
        str,
        Key(
            "logging.format",
            "`text`: time, level, message, key=value; `json`: one object per line.",
            choices=("text", "json"),
        ),
    ] = "text"


class Source(NamedTuple):
    """Where a value comes from. `kind`: default, file, environment or option; `name`: path, variable or option."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


DEFAULT = Source("default")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a broker is told from outside. Built by `load`, or from values with `settings_of` in programs."""

    broker: BrokerSection = BrokerSection()
    network: NetworkSection = NetworkSection()
    topics: TopicsSection = TopicsSection()
    log: LogSection = LogSection()
    groups: GroupsSection = GroupsSection()
    wal: WalSection = WalSection()
    upload: UploadSection = UploadSection()
    cache: CacheSection = CacheSection()
    store: StoreSection = StoreSection()
    http: HttpSection = HttpSection()
    logging: LoggingSection = LoggingSection()
    sources: Mapping[str, Source] = msgspec.field(default_factory=dict)

    def value(self, name: str) -> Any:
        """The value of the setting with this dotted name; KeyError when there is none."""
        setting = SETTINGS[name]
        return getattr(getattr(self, setting.section), setting.attribute)

    def source(self, name: str) -> Source:
        """Where that value comes from."""
        return self.sources.get(name, DEFAULT)


SECTIONS: dict[str, type[Section]] = {
    "broker": BrokerSection,
    "network": NetworkSection,
    "topics": TopicsSection,
    "log": LogSection,
    "groups": GroupsSection,
    "wal": WalSection,
    "upload": UploadSection,
    "cache": CacheSection,
    "store": StoreSection,
    "http": HttpSection,
    "logging": LoggingSection,
}

SETTINGS: dict[str, Setting] = {
    setting.name: setting for section, schema in SECTIONS.items() for setting in declared(section, schema)
}
"""Every setting by its dotted name, in the order of the documentation."""

ALIASES: dict[str, str] = {alias: name for name, setting in SETTINGS.items() for alias in setting.key.aliases}
"""Other accepted names, each with the one that it stands for."""
