"""The description of configs for DescribeConfigs and CreateTopics: value, source, synonyms, type, text (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from broker.configs.definitions import BROKER_CONFIGS, TOPIC_CONFIGS
from broker.configs.layers import BrokerLayers, ConfigSource, Layer
from broker.settings.keys import ConfigType
from broker.settings.schema import SETTINGS

T = TypeVar("T")


class Described(NamedTuple):
    """One config as a client sees it; a secret has no value."""

    name: str
    value: str | None
    source: ConfigSource
    type: ConfigType
    read_only: bool
    sensitive: bool
    synonyms: Sequence[Layer]
    doc: str


def describe_topic(
    overrides: Mapping[str, str], layers: BrokerLayers, keys: Sequence[str] | None = None
) -> list[Described]:
    """The configs of a topic, all of them or those of `keys` that exist."""
    found = []
    for definition in _chosen(TOPIC_CONFIGS, keys):
        layer = layers.effective(definition, overrides)
        synonyms = layers.topic_layers(definition, overrides)
        found.append(
            Described(
                definition.name, layer.text, layer.source, definition.type, False, False, synonyms, definition.doc
            )
        )
    return found


def describe_broker(layers: BrokerLayers, keys: Sequence[str] | None = None) -> list[Described]:
    """Every setting of the broker, with its dynamic values."""
    found = []
    for setting in _chosen(SETTINGS, keys):
        candidates = layers.layers(setting.name)
        read_only = setting.name not in BROKER_CONFIGS
        value = candidates[0].text if candidates and not setting.key.secret else None
        source = candidates[0].source if candidates else ConfigSource.DEFAULT
        found.append(
            Described(
                setting.name,
                value,
                source,
                setting.config_type,
                read_only,
                setting.key.secret,
                [] if setting.key.secret else candidates,
                setting.key.doc,
            )
        )
    return found


def describe_cluster_default(layers: BrokerLayers, keys: Sequence[str] | None = None) -> list[Described]:
    """The dynamic values of the default broker resource (empty name): only what was set."""
    found = []
    for definition in _chosen(BROKER_CONFIGS, keys):
        text = layers.cluster.get(definition.name)
        if text is not None:
            layer = Layer(definition.name, text, ConfigSource.DEFAULT_BROKER)
            found.append(
                Described(definition.name, text, layer.source, definition.type, False, False, [layer], definition.doc)
            )
    return found


def _chosen(table: Mapping[str, T], keys: Sequence[str] | None) -> list[T]:
    if not keys:  # Kafka: null or empty means all of them
        return list(table.values())
    wanted = set(keys)
    return [entry for name, entry in table.items() if name in wanted]
