"""Changing configs: from the overrides in force and a request to the new overrides, or a refusal (pure).

Behaviour and texts follow Apache Kafka 4.3 (`ConfigurationControlManager`, KIP-339), asked on the wire.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from broker.configs.check import InvalidConfig, Value, check_topic_values, parse, split_list
from broker.configs.definitions import BROKER_CONFIGS, TOPIC_CONFIGS, ConfigDef
from broker.configs.layers import BrokerLayers
from broker.refusal import Refused
from broker.settings.keys import ConfigType
from broker.settings.schema import ALIASES, SETTINGS
from protocol.errors import ErrorCode


class Operation(enum.IntEnum):
    """What IncrementalAlterConfigs does with one key."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Change(NamedTuple):
    name: str
    operation: int
    value: str | None


def topic_overrides(configs: Sequence[tuple[str, str | None]], *, internal: bool = False) -> dict[str, str]:
    """The checked overrides of a new topic; of a repeated name the last value holds, as in Kafka."""
    nulls = [name for name, value in configs if value is None]
    if nulls:
        raise Refused(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(nulls)}")
    overrides = {name: value for name, value in configs if value is not None}
    _check_topic(overrides, internal=internal)
    return overrides


def replaced_topic(configs: Sequence[tuple[str, str | None]], *, internal: bool) -> dict[str, str]:
    """AlterConfigs on a topic: the given values are all that is left."""
    overrides = _only_values(configs)
    _check_topic(overrides, internal=internal)
    return overrides


def replaced_broker(configs: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """AlterConfigs on a broker resource: the given dynamic values are all that is left."""
    overrides = _only_values(configs)
    _check_broker(overrides, list(overrides))
    return overrides


def changed_topic(
    current: Mapping[str, str], changes: Sequence[Change], layers: BrokerLayers, *, internal: bool
) -> dict[str, str]:
    """IncrementalAlterConfigs on a topic."""

    def inherited(name: str) -> str:
        definition = TOPIC_CONFIGS.get(name)
        return "" if definition is None else layers.effective(definition, {}).text

    overrides = _applied(current, changes, TOPIC_CONFIGS, inherited)
    _check_topic(overrides, internal=internal)
    return overrides


def changed_broker(current: Mapping[str, str], changes: Sequence[Change], layers: BrokerLayers) -> dict[str, str]:
    """IncrementalAlterConfigs on a broker resource; only dynamic settings can change."""

    def inherited(name: str) -> str:
        found = layers.layers(name)
        return found[0].text if found else ""

    overrides = _applied(current, changes, BROKER_CONFIGS, inherited)
    _check_broker(overrides, [change.name for change in changes if change.operation != Operation.DELETE])
    return overrides


def _only_values(configs: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    _refuse_repeated([name for name, _ in configs])
    overrides = {}
    for name, value in configs:
        if value is None:
            raise Refused(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {name}")
        overrides[name] = value
    return overrides


def _applied(
    current: Mapping[str, str],
    changes: Sequence[Change],
    definitions: Mapping[str, ConfigDef],
    inherited: Callable[[str], str],
) -> dict[str, str]:
    _refuse_repeated([change.name for change in changes])
    overrides = dict(current)
    for name, operation, value in changes:
        if operation not in Operation._value2member_map_:
            raise Refused(ErrorCode.INVALID_REQUEST, f"Unknown config operation {operation} for : {name}")
        if operation == Operation.DELETE:
            overrides.pop(name, None)
            continue
        if value is None:
            raise Refused(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {name}")
        if operation == Operation.SET:
            overrides[name] = value
            continue
        definition = definitions.get(name)
        if definition is None or definition.type is not ConfigType.LIST:
            verb = Operation(operation).name
            raise Refused(ErrorCode.INVALID_CONFIG, f"Can't {verb} to key {name} because its type is not LIST.")
        items = split_list(overrides[name] if name in overrides else inherited(name))
        given = split_list(value)
        if operation == Operation.APPEND:
            items += tuple(item for item in given if item not in items)
        else:
            items = tuple(item for item in items if item not in given)
        overrides[name] = ",".join(items)
    return overrides


def _refuse_repeated(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise Refused(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")


def _check_topic(overrides: Mapping[str, str], *, internal: bool) -> None:
    values: dict[str, Value] = {}
    for name, text in overrides.items():
        definition = TOPIC_CONFIGS.get(name)
        if definition is None:
            raise Refused(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
        try:
            values[name] = parse(definition, text)
        except InvalidConfig as error:
            raise Refused(ErrorCode.INVALID_CONFIG, str(error)) from None
    try:
        check_topic_values(values, internal=internal)
    except InvalidConfig as error:
        raise Refused(ErrorCode.INVALID_CONFIG, str(error)) from None


def _check_broker(overrides: Mapping[str, str], touched: Sequence[str]) -> None:
    static = [name for name in touched if name not in BROKER_CONFIGS and (name in SETTINGS or name in ALIASES)]
    if static:
        raise Refused(ErrorCode.INVALID_REQUEST, f"Cannot update these configs dynamically: [{', '.join(static)}]")
    values: dict[str, Value] = {}
    for name, text in overrides.items():
        definition = BROKER_CONFIGS.get(name)
        if definition is None:
            raise Refused(ErrorCode.INVALID_CONFIG, f"Unknown broker config name: {name}")
        try:
            values[name] = parse(definition, text)
        except InvalidConfig as error:
            raise Refused(ErrorCode.INVALID_REQUEST, str(error)) from None
    if "compact" in split_list(overrides.get("log.cleanup.policy", "")):
        raise Refused(
            ErrorCode.INVALID_CONFIG,
            "Invalid value compact for configuration log.cleanup.policy: this broker does not compact topics of users "
            "yet, only delete is supported",
        )
