"""AlterConfigs (key 33), versions 0 to 2: replaces all overrides of a topic, or all dynamic values of a broker.

- What the request does not name goes back to its default. In force when the answer comes.
- A setting that is not dynamic is INVALID_REQUEST (42), as Kafka answers; clients that ask for `num.partitions` at
  broker level this way rely on that.
- `validate_only` checks and changes nothing. Each resource is one transaction; one that is named twice is refused.
KIP-133; IncrementalAlterConfigs (KIP-339) is what new clients use. Codes and texts as Apache Kafka 4.3 gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.cluster.altering import Alteration, alter_all
from broker.cluster.serving import ClusterRequest, ClusterServices
from broker.configs.alter import replaced_broker, replaced_topic


async def handle(services: ClusterServices, request: ClusterRequest) -> Mapping[str, Any]:
    """The response body."""
    body = request.body
    alterations = [_alteration(each.resource_type, each.resource_name, each.configs) for each in body.resources]
    return await alter_all(services, alterations, validate_only=body.validate_only)


def _alteration(resource_type: int, resource_name: str, configs: Any) -> Alteration:
    values = [(each.name, each.value) for each in configs]

    def of_topic(_current: Mapping[str, str], internal: bool) -> dict[str, str]:
        return replaced_topic(values, internal=internal)

    def of_broker(_current: Mapping[str, str], _internal: bool) -> dict[str, str]:
        return replaced_broker(values)

    return Alteration(resource_type, resource_name, of_topic, of_broker)
