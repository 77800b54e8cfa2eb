"""What must differ between two brokers is normalised, the rest is compared field by field."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from tests.parity import batches
from tests.parity.target import Target
from tests.parity.wire import Plain

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NODES = {
    "node_id",
    "leader_id",
    "controller_id",
    "broker_id",
    "replica_nodes",
    "isr_nodes",
    "offline_replicas",
    "preferred_read_replica",
}
_TIMES = {"timestamp", "log_append_time", "base_timestamp", "max_timestamp"}
_ARRIVAL_MS = 3_600_000
# Lists are compared by these fields, since no client depends on their order; the others by position.
_LABELS = (
    ("api_key",),
    ("resource_type", "resource_name"),
    ("topic_id", "name"),
    ("topic_id",),
    ("topic",),
    ("name",),
    ("group_id",),
    ("key",),
    ("partition_index",),
    ("partition",),
    ("index",),
    ("node_id",),
    ("broker_id",),
)
MISSING = "(absent)"


def normalise(value: Plain, target: Target, field: str = "") -> Plain:
    """`value` with what belongs to this broker and this run replaced by placeholders."""
    if isinstance(value, dict):
        return {key: normalise(item, target, key) for key, item in value.items()}
    if isinstance(value, list):
        return [normalise(item, target, field) for item in value]
    if isinstance(value, bytes):
        return normalise(batches.headers(value), target) if field == "records" else value.hex()
    if isinstance(value, str):
        return _text(value, target, field)
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return _number(value, target, field)


def _text(value: str, target: Target, field: str) -> str:
    if field in ("error_message", "batch_index_error_message"):
        return "(text)" if value else value
    if field in ("host", "documentation"):
        return f"({field})" if value else value
    if value == target.cluster_id:
        return "(cluster)"
    if value in target.topic_names:
        value = f"id of {target.topic_names[value]}"
    if value == str(target.node_id) and field in ("resource_name",):
        return "(node)"
    return _UUID.sub("(uuid)", value.replace(target.token, "RUN"))


def _number(value: int, target: Target, field: str) -> Plain:
    if field in _NODES and value == target.node_id:
        return "(node)"
    if field == "port" and value == target.port:
        return "(port)"
    if field == "producer_id" and value >= 0:
        return "(producer id)"
    if field == "session_id" and value != 0:
        return "(session)"
    if field in _TIMES and abs(value - time.time() * 1000) < _ARRIVAL_MS:
        return "(now)"
    return value


@dataclass(frozen=True)
class Difference:
    """One field of one case that is not the same on both."""

    case: str
    path: str
    kafka: Any
    weir: Any


def _label(item: Any) -> str | None:
    if isinstance(item, dict):
        for fields in _LABELS:
            if all(f in item for f in fields):
                return ",".join(str(item[f]) for f in fields if item[f] is not None)
    return None


def _by_label(items: list[Any]) -> dict[str, Any]:
    """The items keyed by label (repeated labels are numbered), else by position; plain strings are sorted."""
    if items and all(isinstance(item, str) for item in items):
        items = sorted(items)
    found: dict[str, Any] = {}
    for position, item in enumerate(items):
        label = _label(item)
        key = str(position) if label is None else label
        again = 2
        while key in found:
            key = f"{label}#{again}"
            again += 1
        found[key] = item
    return found


def differences(case: str, kafka: Plain, weir: Plain, path: str = "") -> list[Difference]:
    """Every leaf that differs between two normalised observations."""
    if isinstance(kafka, list) and isinstance(weir, list):
        left, right = _by_label(kafka), _by_label(weir)
        template = "{}[{}]"
    elif isinstance(kafka, dict) and isinstance(weir, dict):
        left, right = kafka, weir
        template = "{}.{}" if path else "{}{}"
    else:
        return [] if kafka == weir else [Difference(case, path, kafka, weir)]
    found = []
    for key in [*left, *(k for k in right if k not in left)]:
        at = template.format(path, key)
        found += differences(case, left.get(key, MISSING), right.get(key, MISSING), at)
    return found
