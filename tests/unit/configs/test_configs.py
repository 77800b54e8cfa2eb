"""Topic and broker configs: checks with Kafka's texts, layers and synonyms, changes, descriptions."""

from __future__ import annotations

import pytest

from broker.configs.alter import (
    Change,
    Operation,
    changed_broker,
    changed_topic,
    replaced_broker,
    replaced_topic,
    topic_overrides,
)
from broker.configs.definitions import BROKER_CONFIGS, TOPIC_CONFIGS
from broker.configs.describe import describe_broker, describe_cluster_default, describe_topic
from broker.configs.layers import BrokerLayers, ConfigSource
from broker.refusal import Refused
from broker.settings import SETTINGS, ConfigType, settings_of
from protocol.errors import ErrorCode

LAYERS = BrokerLayers(settings_of({}))

# Asked of Apache Kafka 4.3 on the wire: name, value, its answer (None: accepted).
KAFKA_ANSWERS = [
    ("retention.ms", "x", "Invalid value x for configuration retention.ms: Not a number of type LONG"),
    ("retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
    ("retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"),
    ("retention.ms", " 5 ", None),
    ("nope", "1", "Unknown topic config name: nope"),
    ("message.format.version", "3", "Unknown topic config name: message.format.version"),
    (
        "cleanup.policy",
        "foo",
        "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
    ),
    ("cleanup.policy", "", None),
    ("cleanup.policy", "delete,delete", None),
    (
        "compression.type",
        "brotli",
        "Invalid value brotli for configuration compression.type: String must be one of: uncompressed, zstd, lz4, "
        "snappy, gzip, producer",
    ),
    ("max.message.bytes", "-1", "Invalid value -1 for configuration max.message.bytes: Value must be at least 0"),
    (
        "max.message.bytes",
        "99999999999",
        "Invalid value 99999999999 for configuration max.message.bytes: Not a number of type INT",
    ),
    (
        "message.timestamp.type",
        "X",
        "Invalid value X for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime",
    ),
    ("min.insync.replicas", "0", "Invalid value 0 for configuration min.insync.replicas: Value must be at least 1"),
    ("segment.bytes", "1", "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576"),
    (
        "preallocate",
        "maybe",
        "Invalid value maybe for configuration preallocate: Expected value to be either true or false",
    ),
    (
        "min.cleanable.dirty.ratio",
        "2",
        "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
    ),
    ("segment.ms", "0", "Invalid value 0 for configuration segment.ms: Value must be at least 1"),
    (
        "compression.gzip.level",
        "20",
        "Invalid value 20 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
    ),
    ("compression.gzip.level", "-1", None),
    ("flush.messages", "0", "Invalid value 0 for configuration flush.messages: Value must be at least 1"),
    (
        "leader.replication.throttled.replicas",
        "x",
        "Invalid value [x] for configuration leader.replication.throttled.replicas: "
        "leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following format: "
        "[partitionId]:[brokerId],[partitionId]:[brokerId],...",
    ),
    ("leader.replication.throttled.replicas", "0:1,1:2", None),
    ("follower.replication.throttled.replicas", "*", None),
    (
        "remote.storage.enable",
        "true",
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
    ),
]


@pytest.mark.parametrize(("name", "value", "text"), KAFKA_ANSWERS)
def test_values_are_taken_and_refused_as_by_kafka(name: str, value: str, text: str | None) -> None:
    if text is None:
        assert topic_overrides([(name, value)]) == {name: value}
        return
    with pytest.raises(Refused) as caught:
        topic_overrides([(name, value)])
    assert (caught.value.code, caught.value.message) == (ErrorCode.INVALID_CONFIG, text)


@pytest.mark.parametrize("policy", ["compact", "delete,compact", "compact,delete"])
def test_compaction_is_refused_for_users_and_kept_for_the_broker(policy: str) -> None:
    with pytest.raises(Refused) as caught:
        topic_overrides([("cleanup.policy", policy)])
    assert caught.value.code == ErrorCode.INVALID_CONFIG
    assert "does not compact topics of users" in str(caught.value)
    assert topic_overrides([("cleanup.policy", policy)], internal=True) == {"cleanup.policy": policy}


def test_null_values() -> None:
    with pytest.raises(Refused, match="Null value not supported for topic configs") as caught:
        topic_overrides([("retention.ms", None)])
    assert caught.value.code == ErrorCode.INVALID_CONFIG
    with pytest.raises(Refused, match="Null value not supported for :") as caught:
        replaced_topic([("retention.ms", None)], internal=False)
    assert caught.value.code == ErrorCode.INVALID_REQUEST


def test_every_default_is_valid_and_every_synonym_that_we_have_is_dynamic() -> None:
    for definition in TOPIC_CONFIGS.values():
        assert topic_overrides([(definition.name, definition.default)])
        assert definition.doc.endswith(".")
        assert definition.effective or definition.doc.startswith("Without effect")
    assert list(TOPIC_CONFIGS) == sorted(TOPIC_CONFIGS)
    dynamic = {name for name, setting in SETTINGS.items() if setting.key.dynamic}
    assert dynamic == set(BROKER_CONFIGS)
    for name in dynamic:
        assert BROKER_CONFIGS[name].type == SETTINGS[name].config_type, name


def test_layers_from_topic_to_default() -> None:
    static = settings_of({"log.retention.hours": 2, "message.max.bytes": 5000})
    layers = BrokerLayers(static, {"log.retention.ms": "1000"}, {"log.retention.ms": "2000"})
    definition = TOPIC_CONFIGS["retention.ms"]
    assert layers.topic_layers(definition, {"retention.ms": "7"}) == [
        ("retention.ms", "7", ConfigSource.TOPIC),
        ("log.retention.ms", "1000", ConfigSource.BROKER),
        ("log.retention.ms", "2000", ConfigSource.DEFAULT_BROKER),
        ("log.retention.hours", "2", ConfigSource.STATIC_BROKER),
    ]
    assert layers.topic_config({"retention.ms": "7"}).retention_ms == 7
    assert layers.topic_config({}).retention_ms == 1000
    assert BrokerLayers(static, {}, {"log.retention.ms": "2000"}).topic_config({}).retention_ms == 2000
    assert BrokerLayers(static).topic_config({}).retention_ms == 2 * 3_600_000
    assert BrokerLayers(static).topic_config({}).max_message_bytes == 5000
    assert LAYERS.topic_config({}).retention_ms == 7 * 86_400_000
    assert BrokerLayers(settings_of({"log.retention.hours": -1})).topic_config({}).retention_ms == -1
    minutes = BrokerLayers(settings_of({"log.retention.hours": 1, "log.retention.minutes": 3}))
    assert minutes.topic_config({}).retention_ms == 180_000


def test_typed_topic_config() -> None:
    config = LAYERS.topic_config(
        {
            "cleanup.policy": "",
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "zstd",
            "compression.zstd.level": "9",
            "retention.bytes": "10",
        }
    )
    assert (config.delete, config.compact, config.log_append_time) == (False, False, True)
    assert (config.compression_type, config.compression_level, config.retention_bytes) == ("zstd", 9, 10)
    default = LAYERS.topic_config({})
    assert (default.delete, default.compression_type, default.compression_level) == (True, "producer", None)
    assert LAYERS.topic_config({}) is default
    assert LAYERS.topic_config({"cleanup.policy": "compact"}).compact


def op(name: str, operation: Operation | int, value: str | None = None) -> Change:
    return Change(name, operation, value)


SET, DELETE, APPEND, SUBTRACT = Operation


@pytest.mark.parametrize(
    ("current", "changes", "after"),
    [
        ({}, [op("retention.ms", SET, "5")], {"retention.ms": "5"}),
        ({"retention.ms": "5"}, [op("retention.ms", DELETE, "ignored")], {}),
        ({}, [op("nope", DELETE)], {}),
        ({"retention.ms": "5"}, [], {"retention.ms": "5"}),
        ({"retention.ms": "5"}, [op("segment.ms", SET, "9")], {"retention.ms": "5", "segment.ms": "9"}),
        ({}, [op("cleanup.policy", SUBTRACT, "delete")], {"cleanup.policy": ""}),
        ({}, [op("cleanup.policy", APPEND, "delete")], {"cleanup.policy": "delete"}),
        ({"cleanup.policy": ""}, [op("cleanup.policy", APPEND, "delete")], {"cleanup.policy": "delete"}),
        (
            {},
            [op("leader.replication.throttled.replicas", APPEND, "0:1")],
            {"leader.replication.throttled.replicas": "0:1"},
        ),
    ],
)
def test_incremental_changes(current: dict[str, str], changes: list[Change], after: dict[str, str]) -> None:
    before = dict(current)
    assert changed_topic(current, changes, LAYERS, internal=False) == after
    assert current == before


def test_append_and_subtract_on_an_internal_topic() -> None:
    both = changed_topic({}, [op("cleanup.policy", APPEND, "compact")], LAYERS, internal=True)
    assert both == {"cleanup.policy": "delete,compact"}
    assert changed_topic(both, [op("cleanup.policy", APPEND, "compact")], LAYERS, internal=True) == both
    left = changed_topic(both, [op("cleanup.policy", SUBTRACT, "delete")], LAYERS, internal=True)
    assert left == {"cleanup.policy": "compact"}


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        (
            [op("retention.ms", SET, "6"), op("retention.ms", SET, "7")],
            ErrorCode.INVALID_REQUEST,
            "Error due to duplicate config keys",
        ),
        (
            [op("retention.ms", APPEND, "6")],
            ErrorCode.INVALID_CONFIG,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        ([op("nope", SET, "1")], ErrorCode.INVALID_CONFIG, "Unknown topic config name: nope"),
        ([op("retention.ms", SET)], ErrorCode.INVALID_REQUEST, "Null value not supported for : retention.ms"),
        ([op("cleanup.policy", APPEND)], ErrorCode.INVALID_REQUEST, "Null value not supported for : cleanup.policy"),
        ([op("cleanup.policy", APPEND, "compact")], ErrorCode.INVALID_CONFIG, "Invalid value compact"),
        ([op("retention.ms", 7, "1")], ErrorCode.INVALID_REQUEST, "Unknown config operation 7"),
        ([op("cleanup.policy", APPEND, "foo")], ErrorCode.INVALID_CONFIG, "String must be one of: compact, delete"),
    ],
)
def test_refused_changes(changes: list[Change], code: ErrorCode, text: str) -> None:
    with pytest.raises(Refused) as caught:
        changed_topic({}, changes, LAYERS, internal=False)
    assert caught.value.code == code
    assert text in str(caught.value)


def test_broker_configs_that_change_at_run_time() -> None:
    after = changed_broker({}, [op("log.retention.ms", SET, "1000"), op("max.connections", SET, "500")], LAYERS)
    layers = BrokerLayers(settings_of({}), after)
    assert layers.topic_config({}).retention_ms == 1000
    assert layers.max_connections() == 500
    assert changed_broker(after, [op("log.retention.ms", DELETE)], layers) == {"max.connections": "500"}
    assert replaced_broker([("message.max.bytes", "1")]) == {"message.max.bytes": "1"}
    assert changed_broker({}, [op("num.partitions", DELETE)], LAYERS) == {}


@pytest.mark.parametrize(
    ("name", "value", "code", "text"),
    [
        (
            "num.partitions",
            "1000",
            ErrorCode.INVALID_REQUEST,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        ("broker.id", "1", ErrorCode.INVALID_REQUEST, "Cannot update these configs dynamically: [broker.id]"),
        ("log.retention.hours", "1", ErrorCode.INVALID_REQUEST, "[log.retention.hours]"),
        ("store.s3.secret.access.key", "x", ErrorCode.INVALID_REQUEST, "Cannot update"),
        (
            "log.retention.ms",
            "x",
            ErrorCode.INVALID_REQUEST,
            "Invalid value x for configuration log.retention.ms: Not a number of type LONG",
        ),
        ("message.max.bytes", "-4", ErrorCode.INVALID_REQUEST, "Value must be at least 0"),
        ("nope.nope", "1", ErrorCode.INVALID_CONFIG, "Unknown broker config name: nope.nope"),
        ("log.cleanup.policy", "compact", ErrorCode.INVALID_CONFIG, "does not compact"),
    ],
)
def test_broker_configs_that_are_refused(name: str, value: str, code: ErrorCode, text: str) -> None:
    for attempt in (
        lambda: changed_broker({}, [op(name, SET, value)], LAYERS),
        lambda: replaced_broker([(name, value)]),
    ):
        with pytest.raises(Refused) as caught:
            attempt()
        assert caught.value.code == code
        assert text in str(caught.value)


def test_described_topic() -> None:
    described = {each.name: each for each in describe_topic({"retention.ms": "5"}, LAYERS)}
    assert list(described) == list(TOPIC_CONFIGS)
    retention = described["retention.ms"]
    assert (retention.value, retention.source, retention.type) == ("5", ConfigSource.TOPIC, ConfigType.LONG)
    assert described["max.message.bytes"].value == str((16 << 20) + (64 << 10))
    assert described["segment.bytes"].synonyms == [("log.segment.bytes", str(1 << 30), ConfigSource.DEFAULT)]
    assert described["retention.bytes"].value == "-1"
    assert not any(each.read_only or each.sensitive for each in described.values())
    assert [each.name for each in describe_topic({}, LAYERS, ["nope", "segment.ms"])] == ["segment.ms"]
    assert len(describe_topic({}, LAYERS, [])) == len(TOPIC_CONFIGS)


def test_described_broker() -> None:
    settings = settings_of({"num.partitions": 9, "store.s3.secret.access.key": "geheim"})
    layers = BrokerLayers(settings, {"log.retention.ms": "1"}, {"max.connections": "5"})
    described = {each.name: each for each in describe_broker(layers)}
    assert list(described) == list(SETTINGS)
    partitions = described["num.partitions"]
    assert (partitions.value, partitions.source, partitions.read_only) == ("9", ConfigSource.STATIC_BROKER, True)
    assert partitions.synonyms == [
        ("num.partitions", "9", ConfigSource.STATIC_BROKER),
        ("num.partitions", "4", ConfigSource.DEFAULT),
    ]
    retention = described["log.retention.ms"]
    assert (retention.value, retention.source, retention.read_only) == ("1", ConfigSource.BROKER, False)
    secret = described["store.s3.secret.access.key"]
    assert (secret.value, secret.sensitive, secret.type) == (None, True, ConfigType.PASSWORD)
    assert secret.source == ConfigSource.STATIC_BROKER
    assert "geheim" not in repr(described)
    assert [(each.name, each.value) for each in describe_cluster_default(layers)] == [("max.connections", "5")]
    assert describe_cluster_default(layers, ["message.max.bytes"]) == []
