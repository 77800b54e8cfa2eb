"""Checking one config value the way Kafka does, with Kafka's texts (pure)."""

from __future__ import annotations

import re

from broker.configs.definitions import THROTTLED_REPLICAS, ConfigDef
from broker.settings.keys import ConfigType

_BITS = {ConfigType.SHORT: 15, ConfigType.INT: 31, ConfigType.LONG: 63}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_REPLICA_LIST = re.compile(r"[0-9]+:[0-9]+")

Value = bool | int | float | str | tuple[str, ...]


class InvalidConfig(ValueError):
    """The text that tells a client why a config was refused."""


def parse(definition: ConfigDef, raw: str) -> Value:
    """The typed value of `raw`, within the bounds of its definition. Raises InvalidConfig."""
    text = raw.strip()
    if definition.type is ConfigType.BOOLEAN:
        if text.lower() not in ("true", "false"):
            raise _invalid(definition, raw, "Expected value to be either true or false")
        return text.lower() == "true"
    if definition.type is ConfigType.LIST:
        return _parse_list(definition, raw)
    if definition.type in _BITS or definition.type is ConfigType.DOUBLE:
        return _parse_number(definition, raw, text)
    if definition.choices and raw not in definition.choices:
        raise _invalid(definition, raw, f"String must be one of: {', '.join(definition.choices)}")
    return raw


def _parse_list(definition: ConfigDef, raw: str) -> tuple[str, ...]:
    items = split_list(raw)
    if definition.choices:
        for item in items:
            if item not in definition.choices:
                raise _invalid(definition, item, f"String must be one of: {', '.join(definition.choices)}")
    elif definition.name in THROTTLED_REPLICAS and items != ("*",):
        _check_replica_list(definition, items)
    return items


def _check_replica_list(definition: ConfigDef, items: tuple[str, ...]) -> None:
    if not all(_REPLICA_LIST.fullmatch(item) for item in items):
        wanted = "must be the literal '*' or a list of replicas in the following format"
        form = "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
        raise _invalid(definition, f"[{', '.join(items)}]", f"{definition.name} {wanted}: {form}")


def _parse_number(definition: ConfigDef, raw: str, text: str) -> int | float:
    value: int | float
    if definition.type is ConfigType.DOUBLE:
        try:
            value = float(text)
        except ValueError:
            raise _invalid(definition, raw, "Not a number of type DOUBLE") from None
    else:
        limit = 1 << _BITS[definition.type]
        if not _INTEGER.fullmatch(text) or not -limit <= int(text) < limit:
            raise _invalid(definition, raw, f"Not a number of type {definition.type.name}")
        value = int(text)
    low, high = definition.least, definition.most
    if definition.extra is not None:
        if value != definition.extra and not (low or 0) <= value <= (high or 0):
            shown = f"Value must be between {low} and {high} or equal to {definition.extra}"
            raise _invalid(definition, value, shown)
    elif low is not None and not value >= low:
        raise _invalid(definition, value, f"Value must be at least {low}")
    elif high is not None and not value <= high:
        raise _invalid(definition, value, f"Value must be no more than {high}")
    return value


def split_list(raw: str) -> tuple[str, ...]:
    """The items of a LIST value, each once, in order."""
    return tuple(dict.fromkeys(item.strip() for item in raw.split(",") if item.strip()))


def _invalid(definition: ConfigDef, value: object, reason: str) -> InvalidConfig:
    return InvalidConfig(f"Invalid value {value} for configuration {definition.name}: {reason}")


def check_topic_values(values: dict[str, Value], *, internal: bool) -> None:
    """What no single value shows. `values` are the typed overrides of one topic. Raises InvalidConfig."""
    policy = values.get("cleanup.policy", ())
    if isinstance(policy, tuple) and "compact" in policy and not internal:
        raise InvalidConfig(
            "Invalid value compact for configuration cleanup.policy: this broker does not compact topics of users yet, "
            "only delete is supported"
        )
    if values.get("remote.storage.enable"):
        raise InvalidConfig(
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage."
        )
    low, high = values.get("min.compaction.lag.ms"), values.get("max.compaction.lag.ms")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        raise InvalidConfig(
            f"conflict topic config setting min.compaction.lag.ms ({low}) > max.compaction.lag.ms ({high})"
        )
