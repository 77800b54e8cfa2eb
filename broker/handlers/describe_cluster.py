"""DescribeCluster (key 60), versions 0 to 2: the cluster id and the live brokers.

- Endpoint type 2 (controllers, version 1) is refused: brokers listen for clients only. No broker is ever listed as
  fenced: a dead one is not in the image.
- Authorised operations, if asked for, are all of them: there is no authorisation yet.
KIP-700, KIP-919, KIP-1073. Codes and texts as Apache Kafka 4.3 gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.cluster.serving import CLUSTER_OPERATIONS, NO_OPERATIONS, ClusterRequest, ClusterServices
from protocol.errors import ErrorCode
from protocol.messages import field

_BROKERS, _CONTROLLERS = 1, 2


async def handle(services: ClusterServices, request: ClusterRequest) -> Mapping[str, Any]:
    """The response body."""
    endpoint_type = field(request.body, "endpoint_type", _BROKERS)
    if endpoint_type == _CONTROLLERS:
        return _refused(
            ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )
    if endpoint_type != _BROKERS:
        return _refused(ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {endpoint_type}")
    image = services.image
    asked = request.body.include_cluster_authorized_operations
    return {
        "throttle_time": 0,
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "endpoint_type": _BROKERS,
        "cluster_id": image.cluster_id,
        "controller_id": image.controller_id,
        "brokers": [
            {"broker_id": each.node_id, "host": each.host, "port": each.port, "rack": each.rack, "is_fenced": False}
            for each in image.brokers
        ],
        "cluster_authorized_operations": CLUSTER_OPERATIONS if asked else NO_OPERATIONS,
    }


def _refused(code: ErrorCode, message: str) -> Mapping[str, Any]:
    return {
        "throttle_time": 0,
        "error_code": code,
        "error_message": message,
        "endpoint_type": _BROKERS,
        "cluster_id": "",
        "controller_id": -1,
        "brokers": [],
        "cluster_authorized_operations": NO_OPERATIONS,
    }
