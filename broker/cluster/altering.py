"""What the two APIs that alter configs share: which resource is meant, who may be altered, and the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from broker.cluster.controller import Decide
from broker.cluster.names import name_problem
from broker.cluster.rows import Resource
from broker.cluster.serving import ClusterServices
from broker.refusal import Refused
from protocol.errors import ErrorCode
from s3stream.errors import OutcomeUnknown, Retry


class Alteration(NamedTuple):
    """The change of one resource: how a topic's overrides and how a broker's dynamic values become new ones."""

    resource_type: int
    resource_name: str
    of_topic: Decide
    of_broker: Decide


async def alter_all(
    services: ClusterServices, alterations: Sequence[Alteration], *, validate_only: bool
) -> Mapping[str, Any]:
    """Carry out one after the other; the response body of either API."""
    times = Counter((each.resource_type, each.resource_name) for each in alterations)
    responses = []
    for each in alterations:
        if times[each.resource_type, each.resource_name] > 1:
            refusal: Refused | None = Refused(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
        else:
            refusal = await _alter(services, each, validate_only)
        responses.append(
            {
                "error_code": ErrorCode.NONE if refusal is None else refusal.code,
                "error_message": None if refusal is None else refusal.message,
                "resource_type": each.resource_type,
                "resource_name": each.resource_name,
            }
        )
    return {"throttle_time": 0, "responses": responses}


async def _alter(services: ClusterServices, alteration: Alteration, validate_only: bool) -> Refused | None:
    kind, name, of_topic, of_broker = alteration
    try:
        if kind == Resource.TOPIC:
            _check_topic_name(name)
            await services.cluster.alter_topic_configs(name, of_topic, validate_only=validate_only)
        elif kind == Resource.BROKER:
            _check_broker_name(name, services.settings.broker.node_id)
            await services.cluster.alter_broker_configs(name, of_broker, validate_only=validate_only)
        else:
            raise Refused(ErrorCode.INVALID_REQUEST, f"Unknown resource type {kind}")
    except Refused as refusal:
        return refusal
    except (Retry, OutcomeUnknown) as error:
        return Refused(ErrorCode.REQUEST_TIMED_OUT, str(error))
    return None


def _check_topic_name(name: str) -> None:
    if name == "":
        raise Refused(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
    problem = name_problem(name)
    if problem is not None:
        raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, problem)


def _check_broker_name(name: str, node_id: int) -> None:
    if name == "":
        return
    if not name.isascii() or not name.isdigit():
        raise Refused(ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}")
    if int(name) != node_id:
        raise Refused(ErrorCode.INVALID_REQUEST, f"Unexpected broker id, expected {node_id}, but received {name}")
