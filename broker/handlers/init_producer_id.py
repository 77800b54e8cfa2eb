"""InitProducerId (key 22), versions 0 to 5: producer ids for idempotent producers (KIP-98, KIP-360).

Behaviour: every request without a transactional id gets a fresh producer id at epoch 0, whatever id it names, as Kafka
does. Ids come from blocks reserved in the metadata; a spare block is kept so that an outage of it is not noticed.
Deliberate omissions: transactional ids are refused with UNSUPPORTED_VERSION until transactions are served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.request import Request
from broker.services import Services
from protocol.errors import ErrorCode
from s3stream.errors import StreamError


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    if body.transactional_id is not None:
        error = ErrorCode.INVALID_REQUEST if body.transactional_id == "" else ErrorCode.UNSUPPORTED_VERSION
        return _answer(error)
    producer_id, producer_epoch = getattr(body, "producer_id", -1), getattr(body, "producer_epoch", -1)
    if (producer_id == -1) != (producer_epoch == -1):
        return _answer(ErrorCode.INVALID_REQUEST)
    try:
        return _answer(ErrorCode.NONE, await services.producer_ids.next())
    except StreamError:
        return _answer(ErrorCode.COORDINATOR_NOT_AVAILABLE)


def _answer(error: ErrorCode, producer_id: int = -1) -> dict[str, Any]:
    return {
        "throttle_time": 0,
        "error_code": error,
        "producer_id": producer_id,
        "producer_epoch": 0 if producer_id >= 0 else -1,
    }
