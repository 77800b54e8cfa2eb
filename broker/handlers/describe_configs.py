"""DescribeConfigs (key 32), versions 1 to 4: configs of topics and of this broker, with sources and synonyms.

- A null or empty list of keys means all; unknown keys are left out. Text and type of a config from version 3 on.
- Broker "" lists the dynamic cluster-wide values that are set; another broker than the asked one is INVALID_REQUEST.
- Broker entries include Weir's own settings; secrets come without a value, marked sensitive.
- Resource types without configs here (loggers, clients, groups) are INVALID_REQUEST.
KIP-133, KIP-226, KIP-524, KIP-569.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker.cluster.names import name_problem
from broker.cluster.rows import Resource
from broker.cluster.serving import ClusterRequest, ClusterServices
from broker.configs.describe import Described, describe_broker, describe_cluster_default, describe_topic
from broker.refusal import Refused
from protocol.errors import ErrorCode
from protocol.messages import field

_UNKNOWN_TYPE = (
    "This most likely occurs because of a request being malformed by the client library or the message was sent to an "
    "incompatible broker. See the broker logs for more details."
)


async def handle(services: ClusterServices, request: ClusterRequest) -> Mapping[str, Any]:
    """The response body."""
    body = request.body
    synonyms = body.include_synonyms
    documentation = field(body, "include_documentation", False)
    results = []
    for resource in body.resources:
        result = {
            "error_code": ErrorCode.NONE,
            "error_message": "",  # as Kafka: never null
            "resource_type": resource.resource_type,
            "resource_name": resource.resource_name,
            "configs": [],
        }
        try:
            described = _describe(services, resource.resource_type, resource.resource_name, resource.configuration_keys)
        except Refused as refusal:
            result |= {"error_code": refusal.code, "error_message": refusal.message or ""}
        else:
            result["configs"] = [_entry(config, synonyms, documentation) for config in described]
        results.append(result)
    return {"throttle_time": 0, "results": results}


def _describe(services: ClusterServices, resource_type: int, name: str, keys: Sequence[str] | None) -> list[Described]:
    image = services.image
    if resource_type == Resource.TOPIC:
        problem = name_problem(name)
        if problem is not None:
            raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)
        topic = image.topic(name)
        if topic is None:
            raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return describe_topic(topic.overrides, image.layers, keys)
    if resource_type != Resource.BROKER:
        raise Refused(ErrorCode.INVALID_REQUEST, _UNKNOWN_TYPE)
    if name == "":
        return describe_cluster_default(image.layers, keys)
    node_id = services.settings.broker.node_id
    if not name.isascii() or not name.isdigit():
        raise Refused(ErrorCode.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name}")
    if int(name) != node_id:
        raise Refused(
            ErrorCode.INVALID_REQUEST,
            f"Unexpected broker id, expected {node_id} or empty string, but received {name}",
        )
    return describe_broker(image.layers, keys)


def _entry(config: Described, synonyms: bool, documentation: bool) -> dict[str, Any]:
    return {
        "name": config.name,
        "value": config.value,
        "read_only": config.read_only,
        "config_source": config.source,
        "is_sensitive": config.sensitive,
        "synonyms": [
            {"name": layer.name, "value": layer.text, "source": layer.source}
            for layer in (config.synonyms if synonyms else ())
        ],
        "config_type": config.type,
        "documentation": config.doc if documentation else None,
    }
