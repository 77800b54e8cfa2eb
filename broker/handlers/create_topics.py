"""CreateTopics (key 19), versions 2 to 7: new topics, each checked, written, opened and announced before the answer.

- Numbers of -1 take `num.partitions` and `default.replication.factor`. Any replication factor from 1 is taken and shown
  as asked unless `strict.replication.factor` is set: the object store replicates.
- Manual assignments are checked as Kafka checks them; they give the number of partitions and the factor, while the
  broker that leads is the cluster's own choice.
- `validate_only` answers as if, and does nothing. From version 5 on the answer carries the effective configs.
- A name that occurs twice in one request is refused for both. `timeout` is not used: the work takes milliseconds; when
  the metadata cannot be reached the answer is REQUEST_TIMED_OUT and the topic may exist.
KIP-4, KIP-464, KIP-525, KIP-516. Codes and texts as Apache Kafka 4.3 gives them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from broker.cluster.controller import Created
from broker.cluster.creation import TopicRequest
from broker.cluster.serving import ClusterRequest, ClusterServices
from broker.configs.describe import describe_topic
from broker.refusal import Refused
from protocol.errors import ErrorCode
from s3stream.errors import OutcomeUnknown, Retry


async def handle(services: ClusterServices, request: ClusterRequest) -> Mapping[str, Any]:
    """The response body."""
    body = request.body
    times = Counter(topic.name for topic in body.topics)
    requests = [_topic_request(topic) for topic in body.topics if times[topic.name] == 1]
    results: Sequence[Created | Refused]
    try:
        results = await services.cluster.create_topics(requests, validate_only=body.validate_only)
    except (Retry, OutcomeUnknown) as error:
        results = [Refused(ErrorCode.REQUEST_TIMED_OUT, str(error)) for _ in requests]
    duplicate = Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
    answers = [_refused(name, duplicate) for name, count in times.items() if count > 1]
    for asked, result in zip(requests, results, strict=True):
        if isinstance(result, Refused):
            answers.append(_refused(asked.name, result))
        else:
            answers.append(_created(services, result))
    return {"throttle_time": 0, "topics": answers}


def _topic_request(topic: Any) -> TopicRequest:
    return TopicRequest(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        [(each.partition_index, each.broker_ids) for each in topic.assignments],
        [(each.name, each.value) for each in topic.configs],
    )


def _refused(name: str, refusal: Refused) -> dict[str, Any]:
    return {
        "name": name,
        "topic_id": None,
        "error_code": refusal.code,
        "error_message": refusal.message,
        "num_partitions": -1,
        "replication_factor": -1,
        "configs": [],
    }


def _created(services: ClusterServices, created: Created) -> dict[str, Any]:
    configs = [
        {
            "name": config.name,
            "value": config.value,
            "read_only": config.read_only,
            "config_source": config.source,
            "is_sensitive": config.sensitive,
        }
        for config in describe_topic(created.overrides, services.image.layers)
    ]
    return {
        "name": created.name,
        "topic_id": created.topic_id,
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "num_partitions": created.partitions,
        "replication_factor": created.replication_factor,
        "configs": configs,
    }
