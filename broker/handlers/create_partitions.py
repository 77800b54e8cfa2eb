"""CreatePartitions (key 37), versions 0 to 3: more partitions for a topic, open and led before the answer.

- `count` is the total; fewer or as many as now are INVALID_PARTITIONS. Manual assignments are checked as Kafka does.
- The internal topics cannot grow, unlike on Kafka: groups are placed by the number of their partitions.
- `timeout` is not used; when the metadata cannot be reached the answer is REQUEST_TIMED_OUT.
KIP-195. Codes and texts as Apache Kafka 4.3 gives them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from broker.cluster.serving import ClusterRequest, ClusterServices
from broker.refusal import Refused
from protocol.errors import ErrorCode
from s3stream.errors import OutcomeUnknown, Retry


async def handle(services: ClusterServices, request: ClusterRequest) -> Mapping[str, Any]:
    """The response body."""
    body = request.body
    times = Counter(topic.name for topic in body.topics)
    results = [
        _result(name, Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name."))
        for name, count in times.items()
        if count > 1
    ]
    for topic in body.topics:
        if times[topic.name] == 1:
            refusal = await _grow(services, topic, validate_only=body.validate_only)
            results.append(_result(topic.name, refusal))
    return {"throttle_time": 0, "results": results}


async def _grow(services: ClusterServices, topic: Any, *, validate_only: bool) -> Refused | None:
    assignments = None if topic.assignments is None else [each.broker_ids for each in topic.assignments]
    try:
        await services.cluster.create_partitions(topic.name, topic.count, assignments, validate_only=validate_only)
    except Refused as refusal:
        return refusal
    except (Retry, OutcomeUnknown) as error:
        return Refused(ErrorCode.REQUEST_TIMED_OUT, str(error))
    return None


def _result(name: str, refusal: Refused | None) -> dict[str, Any]:
    return {
        "name": name,
        "error_code": ErrorCode.NONE if refusal is None else refusal.code,
        "error_message": None if refusal is None else refusal.message,
    }
