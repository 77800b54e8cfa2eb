"""Topic configs and dynamic broker configs: definitions, checks, layers of values, changes, descriptions. All pure."""

from __future__ import annotations

from broker.configs.layers import BrokerLayers, ConfigSource, TopicConfig

__all__ = ["BrokerLayers", "ConfigSource", "TopicConfig"]
