"""DeleteTopics (key 20), versions 1 to 6: by name, from version 6 also by topic id; gone when the answer comes.

- What the topic held becomes dead objects, which leave the store after `object.delete.delay.ms`.
- `delete.topic.enable=false` refuses: TOPIC_DELETION_DISABLED, INVALID_REQUEST before version 3.
- The internal topics cannot be deleted, unlike on Kafka: the groups of the whole cluster would be lost.
- A topic that is named twice, by whatever means, is refused each time.
KIP-4, KIP-516, KIP-525. Codes and texts as Apache Kafka 4.3 gives them.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from broker.cluster.image import ClusterImage, TopicImage
from broker.cluster.serving import ClusterRequest, ClusterServices
from broker.refusal import Refused
from protocol.errors import ErrorCode
from s3stream.errors import OutcomeUnknown, Retry


class Named(NamedTuple):
    """One topic as the request names it."""

    name: str | None
    topic_id: uuid.UUID | None


async def handle(services: ClusterServices, request: ClusterRequest) -> Mapping[str, Any]:
    """The response body."""
    version, body = request.api_version, request.body
    if version >= 6:
        asked = [Named(each.name, each.topic_id) for each in body.topics]
    else:
        asked = [Named(name, None) for name in body.topic_names]
    if not services.settings.topics.deletable:
        code = ErrorCode.INVALID_REQUEST if version < 3 else ErrorCode.TOPIC_DELETION_DISABLED
        refusal = Refused(code, "Topic deletion is disabled.")
        return _body([_answer(each, None, refusal) for each in asked])
    found: dict[Named, TopicImage | Refused] = {each: _find(services.image, each) for each in asked}
    times = Counter(topic.name if isinstance(topic, TopicImage) else each for each, topic in _resolved(asked, found))
    for each, topic in found.items():
        if isinstance(topic, TopicImage) and times[topic.name] > 1:
            found[each] = Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
    doomed = [topic for topic in found.values() if isinstance(topic, TopicImage)]
    failure: Refused | None = None
    if doomed:
        try:
            await services.cluster.delete_topics(doomed)
        except (Retry, OutcomeUnknown) as error:
            failure = Refused(ErrorCode.REQUEST_TIMED_OUT, str(error))
    answers = []
    for each, topic in found.items():
        if isinstance(topic, Refused):
            answers.append(_answer(each, None, topic))
        else:
            answers.append(_answer(each, topic, failure))
    return _body(answers)


def _resolved(
    asked: Sequence[Named], found: Mapping[Named, TopicImage | Refused]
) -> list[tuple[Named, TopicImage | Refused]]:
    return [(each, found[each]) for each in asked]


def _find(image: ClusterImage, asked: Named) -> TopicImage | Refused:
    """The topic, or why it cannot be deleted."""
    if asked.name is not None and asked.topic_id is not None:
        return Refused(ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
    if asked.name is not None:
        topic = image.topic(asked.name)
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
    elif asked.topic_id is not None:
        topic = image.topic_by_id(asked.topic_id)
        missing = ErrorCode.UNKNOWN_TOPIC_ID, "This server does not host this topic ID."
    else:
        return Refused(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
    if topic is None:
        return Refused(*missing)
    if topic.internal:
        return Refused(ErrorCode.INVALID_REQUEST, f"The internal topic {topic.name} cannot be deleted.")
    return topic


def _answer(asked: Named, topic: TopicImage | None, refusal: Refused | None) -> dict[str, Any]:
    return {
        "name": topic.name if topic is not None else asked.name,
        "topic_id": topic.topic_id if topic is not None else asked.topic_id,
        "error_code": ErrorCode.NONE if refusal is None else refusal.code,
        "error_message": None if refusal is None else refusal.message,
    }


def _body(answers: list[dict[str, Any]]) -> Mapping[str, Any]:
    return {"throttle_time": 0, "responses": answers}
