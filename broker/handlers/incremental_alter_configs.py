"""IncrementalAlterConfigs (key 44), versions 0 and 1: set, delete, append to and subtract from single configs.

- Topics and brokers ("" is the default of all brokers); in force when the answer comes, also in running connections.
- Of a broker only dynamic configs change; others are INVALID_REQUEST, as Kafka answers. A name that no broker has is
  INVALID_CONFIG, where Kafka keeps it without effect.
- `validate_only` checks and changes nothing. Each resource is one transaction; one that is named twice is refused.
KIP-339. Codes and texts as Apache Kafka 4.3 gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.cluster.altering import Alteration, alter_all
from broker.cluster.serving import ClusterRequest, ClusterServices
from broker.configs.alter import Change, changed_broker, changed_topic


async def handle(services: ClusterServices, request: ClusterRequest) -> Mapping[str, Any]:
    """The response body."""
    body = request.body
    alterations = [
        _alteration(services, each.resource_type, each.resource_name, each.configs) for each in body.resources
    ]
    return await alter_all(services, alterations, validate_only=body.validate_only)


def _alteration(services: ClusterServices, resource_type: int, resource_name: str, configs: Any) -> Alteration:
    changes = [Change(each.name, each.config_operation, each.value) for each in configs]

    def of_topic(current: Mapping[str, str], internal: bool) -> dict[str, str]:
        return changed_topic(current, changes, services.image.layers, internal=internal)

    def of_broker(current: Mapping[str, str], _internal: bool) -> dict[str, str]:
        return changed_broker(current, changes, services.image.layers)

    return Alteration(resource_type, resource_name, of_topic, of_broker)
