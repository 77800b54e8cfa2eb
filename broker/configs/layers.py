"""Which value of a config holds (pure): topic override, dynamic broker values, static settings, then defaults.

`BrokerLayers` holds the broker-level part and never changes; a change of a dynamic broker config makes a new one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from broker.configs.check import Value, parse
from broker.configs.definitions import TOPIC_CONFIGS, ConfigDef
from broker.settings.schema import DEFAULT, SETTINGS, Settings


class ConfigSource(enum.IntEnum):
    """Where an effective value comes from, as DescribeConfigs numbers it."""

    TOPIC = 1
    BROKER = 2
    DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


class Layer(NamedTuple):
    """One candidate value of a config: under which name, its text, where from."""

    name: str
    text: str
    source: ConfigSource


class TopicConfig(msgspec.Struct, frozen=True, gc=False):
    """The configs of one topic that the data plane obeys. Times in ms; -1 in a retention means no limit.

    `compression_type` is `producer`, `uncompressed`, `gzip`, `snappy`, `lz4` or `zstd`; `compression_level` is that
    codec's (None where it has none). Neither `delete` nor `compact`: everything is kept.
    """

    retention_ms: int
    retention_bytes: int
    max_message_bytes: int
    log_append_time: bool
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int
    compression_type: str
    compression_level: int | None
    delete: bool
    compact: bool
    min_insync_replicas: int


class BrokerLayers:
    """Static settings and the dynamic values of one broker and of the cluster-wide default resource."""

    def __init__(
        self, settings: Settings, broker: Mapping[str, str] | None = None, cluster: Mapping[str, str] | None = None
    ) -> None:
        self.settings = settings
        self.broker = dict(broker or {})
        self.cluster = dict(cluster or {})
        self._topic_configs: dict[tuple[tuple[str, str], ...], TopicConfig] = {}

    def layers(self, name: str, default: str | None = None) -> list[Layer]:
        """The values of broker config `name`, the one that holds first; `default` where no such setting exists."""
        found = []
        if name in self.broker:
            found.append(Layer(name, self.broker[name], ConfigSource.BROKER))
        if name in self.cluster:
            found.append(Layer(name, self.cluster[name], ConfigSource.DEFAULT_BROKER))
        setting = SETTINGS.get(name)
        if setting is None:
            return [*found, Layer(name, default, ConfigSource.DEFAULT)] if default is not None else found
        text = setting.text(self.settings.value(name))
        if text is not None and self.settings.source(name) != DEFAULT:
            found.append(Layer(name, text, ConfigSource.STATIC_BROKER))
        text = setting.text(setting.default)
        if text is not None:
            found.append(Layer(name, text, ConfigSource.DEFAULT))
        return found

    def topic_layers(self, definition: ConfigDef, overrides: Mapping[str, str]) -> list[Layer]:
        """The values of a topic config and of its broker-level synonyms, the one that holds first."""
        found = []
        if definition.name in overrides:
            found.append(Layer(definition.name, overrides[definition.name], ConfigSource.TOPIC))
        # As in Kafka only the first synonym's default counts: that of another (log.retention.hours) is ours as well.
        inherited = [
            layer
            for synonym in definition.synonyms
            for layer in self.layers(synonym.name, definition.default)
            if layer.source != ConfigSource.DEFAULT or synonym is definition.synonyms[0]
        ]
        # Stable: among equal sources the order of the synonyms decides.
        return found + sorted(inherited, key=lambda layer: layer.source)

    def effective(self, definition: ConfigDef, overrides: Mapping[str, str]) -> Layer:
        """The value that holds, in the unit of the topic config."""
        layers = self.topic_layers(definition, overrides)
        if not layers:
            return Layer(definition.name, definition.default, ConfigSource.DEFAULT)
        name, text, source = layers[0]
        factors = {synonym.name: synonym.factor for synonym in definition.synonyms}
        return Layer(name, _scaled(text, factors.get(name, 1)), source)

    def topic_config(self, overrides: Mapping[str, str]) -> TopicConfig:
        """The typed configs of a topic with these (already checked) overrides; equal overrides share one value."""
        key = tuple(sorted(overrides.items()))
        found = self._topic_configs.get(key)
        if found is None:
            found = self._topic_configs[key] = self._build_topic_config(overrides)
        return found

    def _build_topic_config(self, overrides: Mapping[str, str]) -> TopicConfig:
        def value(name: str) -> Value:
            definition = TOPIC_CONFIGS[name]
            return parse(definition, self.effective(definition, overrides).text)

        def number(name: str) -> int:
            found = value(name)
            if not isinstance(found, int):
                raise TypeError(f"{name} is not an integer config")
            return found

        codec = str(value("compression.type"))
        policy = value("cleanup.policy")
        levels = ("gzip", "zstd")
        return TopicConfig(
            retention_ms=number("retention.ms"),
            retention_bytes=number("retention.bytes"),
            max_message_bytes=number("max.message.bytes"),
            log_append_time=value("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms=number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms=number("message.timestamp.after.max.ms"),
            compression_type=codec,
            compression_level=number(f"compression.{codec}.level") if codec in levels else None,
            delete=isinstance(policy, tuple) and "delete" in policy,
            compact=isinstance(policy, tuple) and "compact" in policy,
            min_insync_replicas=number("min.insync.replicas"),
        )

    def max_connections(self) -> int:
        """Connections at one time."""
        return int(self.layers("max.connections")[0].text)

    def max_connections_per_ip(self) -> int:
        """Connections of one client address at one time."""
        return int(self.layers("max.connections.per.ip")[0].text)


def _scaled(text: str, factor: int) -> str:
    if factor == 1:
        return text
    number = int(text)
    return str(number * factor if number >= 0 else -1)
