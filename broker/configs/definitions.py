"""The topic configs: name, type, default, valid values, broker-level synonyms, and whether they have an effect here.

Names, types, defaults and bounds are those of Apache Kafka 4.3 (`LogConfig`). A config without effect is accepted,
kept and shown, so that tools which set it go on working; its text says so.
"""

from __future__ import annotations

import msgspec

from broker.settings.keys import INT_MAX, LONG_MAX, ConfigType
from broker.settings.schema import COMPRESSION_TYPES, TIMESTAMP_TYPES

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Synonym(msgspec.Struct, frozen=True):
    """A broker-level setting that gives a topic config its default; its value times `factor` (hours to ms)."""

    name: str
    factor: int = 1


class ConfigDef(msgspec.Struct, frozen=True):
    """One config. `default` is the text without any broker-level value; `extra` an allowed number out of bounds."""

    name: str
    type: ConfigType
    default: str
    doc: str
    synonyms: tuple[Synonym, ...] = ()
    least: float | None = None
    most: float | None = None
    extra: int | None = None
    choices: tuple[str, ...] = ()
    effective: bool = True


def _def(
    name: str,
    kind: ConfigType,
    default: object,
    doc: str,
    *synonyms: str | Synonym,
    least: float | None = None,
    most: float | None = None,
    extra: int | None = None,
    choices: tuple[str, ...] = (),
) -> ConfigDef:
    named = tuple(Synonym(each) if isinstance(each, str) else each for each in synonyms)
    return ConfigDef(name, kind, str(default), doc, named, least, most, extra, choices)


def _idle(
    name: str,
    kind: ConfigType,
    default: object,
    why: str,
    *synonyms: str,
    least: float | None = None,
    most: float | None = None,
) -> ConfigDef:
    named = tuple(Synonym(each) for each in synonyms)
    return ConfigDef(name, kind, str(default), f"Without effect: {why}", named, least, most, None, (), False)


INT, LONG, BOOLEAN, LIST, STRING, DOUBLE = (
    ConfigType.INT,
    ConfigType.LONG,
    ConfigType.BOOLEAN,
    ConfigType.LIST,
    ConfigType.STRING,
    ConfigType.DOUBLE,
)

_SEGMENTS = "records live in objects of a shared log, a topic has no segment files."
_COMPACTION = "topics of users are not compacted yet."
_REPLICAS = "replicas are not copied between brokers, the object store replicates."
_TIERS = "every topic lives in the object store, there is no local tier to keep or to copy from."

_DEFINITIONS = (
    _def(
        "cleanup.policy",
        LIST,
        "delete",
        "`delete` drops records by `retention.ms` and `retention.bytes`; empty keeps everything. `compact` is refused "
        "for topics of users; the broker's own internal topics have it.",
        "log.cleanup.policy",
        choices=("compact", "delete"),
    ),
    _def(
        "compression.gzip.level",
        INT,
        -1,
        "Level of gzip where the broker re-encodes.",
        "compression.gzip.level",
        least=1,
        most=9,
        extra=-1,
    ),
    _idle(
        "compression.lz4.level",
        INT,
        9,
        "where the broker re-encodes, its lz4 has one level.",
        "compression.lz4.level",
        least=1,
        most=17,
    ),
    _def(
        "compression.type",
        STRING,
        "producer",
        "Codec of the stored batches. `producer` keeps each batch as it came and is the only one that costs nothing.",
        "compression.type",
        choices=COMPRESSION_TYPES,
    ),
    _def(
        "compression.zstd.level",
        INT,
        3,
        "Level of zstd where the broker re-encodes.",
        "compression.zstd.level",
        least=-131072,
        most=22,
    ),
    _idle("delete.retention.ms", LONG, DAY_MS, _COMPACTION, "log.cleaner.delete.retention.ms", least=0),
    _idle(
        "file.delete.delay.ms",
        LONG,
        60_000,
        "`object.delete.delay.ms` of the broker holds for all objects.",
        "log.segment.delete.delay.ms",
        least=0,
    ),
    _idle(
        "flush.messages",
        LONG,
        LONG_MAX,
        "every acknowledged record is durable already.",
        "log.flush.interval.messages",
        least=1,
    ),
    _idle("flush.ms", LONG, LONG_MAX, "every acknowledged record is durable already.", least=0),
    _idle("follower.replication.throttled.replicas", LIST, "", _REPLICAS),
    _idle(
        "index.interval.bytes",
        INT,
        4096,
        "objects carry their own index of blocks.",
        "log.index.interval.bytes",
        least=0,
    ),
    _idle("leader.replication.throttled.replicas", LIST, "", _REPLICAS),
    _idle("local.retention.bytes", LONG, -2, _TIERS, "log.local.retention.bytes", least=-2),
    _idle("local.retention.ms", LONG, -2, _TIERS, "log.local.retention.ms", least=-2),
    _idle("max.compaction.lag.ms", LONG, LONG_MAX, _COMPACTION, "log.cleaner.max.compaction.lag.ms", least=1),
    _def(
        "max.message.bytes",
        INT,
        1048588,
        "Largest record batch, as sent (compressed).",
        "message.max.bytes",
        least=0,
    ),
    _def(
        "message.timestamp.after.max.ms",
        LONG,
        HOUR_MS,
        "How far a record's timestamp may lie ahead of the broker's clock.",
        "log.message.timestamp.after.max.ms",
        least=0,
    ),
    _def(
        "message.timestamp.before.max.ms",
        LONG,
        LONG_MAX,
        "How far a record's timestamp may lie behind the broker's clock.",
        "log.message.timestamp.before.max.ms",
        least=0,
    ),
    _def(
        "message.timestamp.type",
        STRING,
        "CreateTime",
        "Whether a record keeps the time of its producer or gets the time of its append.",
        "log.message.timestamp.type",
        choices=TIMESTAMP_TYPES,
    ),
    _idle("min.cleanable.dirty.ratio", DOUBLE, "0.5", _COMPACTION, "log.cleaner.min.cleanable.ratio", least=0, most=1),
    _idle("min.compaction.lag.ms", LONG, 0, _COMPACTION, "log.cleaner.min.compaction.lag.ms", least=0),
    ConfigDef(
        "min.insync.replicas",
        INT,
        "1",
        "Without effect: an acknowledged record is durable whatever this says.",
        (Synonym("min.insync.replicas"),),
        least=1,
        effective=False,
    ),
    _idle("preallocate", BOOLEAN, "false", _SEGMENTS, "log.preallocate"),
    _idle("remote.log.copy.disable", BOOLEAN, "false", _TIERS),
    _idle("remote.log.delete.on.disable", BOOLEAN, "false", _TIERS),
    _idle("remote.storage.enable", BOOLEAN, "false", _TIERS),
    _def(
        "retention.bytes",
        LONG,
        -1,
        "Bytes kept per partition; -1: no limit. Whole ranges of an upload are dropped, so somewhat more is kept.",
        "log.retention.bytes",
        least=-1,
    ),
    _def(
        "retention.ms",
        LONG,
        7 * DAY_MS,
        "Records are kept this long; -1: for ever. Whole ranges of an upload are dropped, so some live longer.",
        "log.retention.ms",
        Synonym("log.retention.minutes", 60_000),
        Synonym("log.retention.hours", HOUR_MS),
        least=-1,
    ),
    _idle("segment.bytes", INT, 1 << 30, _SEGMENTS, "log.segment.bytes", least=1 << 20),
    _idle("segment.index.bytes", INT, 10 << 20, _SEGMENTS, "log.index.size.max.bytes", least=4),
    _idle("segment.jitter.ms", LONG, 0, _SEGMENTS, least=0),
    _idle("segment.ms", LONG, 7 * DAY_MS, _SEGMENTS, least=1),
    _idle("unclean.leader.election.enable", BOOLEAN, "false", _REPLICAS, "unclean.leader.election.enable"),
)

TOPIC_CONFIGS: dict[str, ConfigDef] = {definition.name: definition for definition in _DEFINITIONS}
"""Every accepted topic config by name, in the order of names."""

THROTTLED_REPLICAS = ("follower.replication.throttled.replicas", "leader.replication.throttled.replicas")

BROKER_CONFIGS: dict[str, ConfigDef] = {
    synonym.name: msgspec.structs.replace(definition, name=synonym.name)
    for definition in _DEFINITIONS
    for synonym in definition.synonyms[:1]
    if definition.effective or definition.name in ("min.insync.replicas", "compression.lz4.level")
} | {
    "max.connections": ConfigDef(
        "max.connections", INT, str(INT_MAX), "Connections at one time.", least=1, most=INT_MAX
    ),
    "max.connections.per.ip": ConfigDef(
        "max.connections.per.ip", INT, str(INT_MAX), "Connections of one client address.", least=1, most=INT_MAX
    ),
}
"""The broker-level configs that can be changed while the broker runs."""
