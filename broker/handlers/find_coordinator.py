"""FindCoordinator (key 10), versions 0 to 6: the broker that coordinates a group (KIP-699 batches since version 4).

Behaviour: the coordinator of a group is the leader of its partition of `__consumer_offsets`; the topic is created on
first use, and the answer is given at once, where Kafka first answers COORDINATOR_NOT_AVAILABLE. An empty group id has a
coordinator too. An unknown key type fails the whole request with INVALID_REQUEST.
Deliberate omissions: transaction coordinators (key type 1) are answered COORDINATOR_NOT_AVAILABLE until transactions
are served; share coordinators (2) INVALID_REQUEST, as Kafka answers where share groups are off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from broker.refusal import Refused
from protocol.errors import ErrorCode
from protocol.messages import field
from s3stream.errors import StreamError

if TYPE_CHECKING:
    from broker.request import Request
    from broker.services import Services

OFFSETS_TOPIC = "__consumer_offsets"
_GROUP, _TRANSACTION, _SHARE = 0, 1, 2
_BATCH_FROM_VERSION = 4
_NO_NODE = (-1, "", -1)


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    key_type = int(field(body, "key_type", _GROUP))
    if request.api_version < _BATCH_FROM_VERSION:
        answer = await _find(services, key_type, str(body.key))
        answer["error_message"] = answer["error_message"] or "NONE"  # as Kafka words its successes here
        return {"throttle_time": 0, **answer}
    keys: Sequence[str] = body.coordinator_keys
    answers = [{"key": key, **await _find(services, key_type, str(key))} for key in keys]
    return {"throttle_time": 0, "coordinators": answers}


async def _find(services: Services, key_type: int, key: str) -> dict[str, Any]:
    if key_type == _TRANSACTION:
        return _answer(ErrorCode.COORDINATOR_NOT_AVAILABLE, "transactions are not served by this broker")
    if key_type != _GROUP:
        what = "share groups are not served" if key_type == _SHARE else f"key type {key_type} is not known"
        return _answer(ErrorCode.INVALID_REQUEST, what)
    try:
        topic = await services.cluster.ensure_internal(OFFSETS_TOPIC)
    except Refused as refused:
        return _answer(ErrorCode.COORDINATOR_NOT_AVAILABLE, str(refused))
    except StreamError as error:
        return _answer(ErrorCode.COORDINATOR_NOT_AVAILABLE, str(error))
    partition = topic.partition(services.groups.partition_for(key))
    if partition is None:
        return _answer(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the partition of this group does not exist yet")
    for broker in services.image.brokers:
        if broker.node_id == partition.leader_id:
            return _answer(ErrorCode.NONE, "", (broker.node_id, broker.host, broker.port))
    return _answer(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the partition of this group has no leader now")


def _answer(error: ErrorCode, message: str, node: tuple[int, str, int] = _NO_NODE) -> dict[str, Any]:
    node_id, host, port = node
    return {"node_id": node_id, "host": host, "port": port, "error_code": error, "error_message": message}
