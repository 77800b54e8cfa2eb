"""Metadata (key 3), versions 0 to 13: brokers, topics, partitions, leaders; creates topics that do not exist yet.

- Null topics: all of them; version 0 has no null, there an empty list means all. From version 1 on empty means none.
- By topic id from version 12; 10 and 11 carry ids but do not support them: INVALID_REQUEST, as in Kafka.
- Auto-creation needs `auto.create.topics.enable` and, from version 4, the request's consent. The new topic is in the
  answer at once, open and led; Kafka says UNKNOWN_TOPIC_OR_PARTITION first and lets the client ask again.
- A partition that no broker leads yet has LEADER_NOT_AVAILABLE. The replica list is as long as the topic asked for.
- Authorised operations, if asked for (from version 8), are all of them: there is no authorisation yet.
- Answers are kept serialised until the image changes, topics until the topic changes.
KIP-4, KIP-227, KIP-430, KIP-516, KIP-700, KIP-1102 (version 13 adds a top-level error, never set here).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from broker.cluster.image import ClusterImage, TopicImage
from broker.cluster.names import name_problem
from broker.cluster.rows import NO_LEADER
from broker.cluster.serving import CLUSTER_OPERATIONS, NO_OPERATIONS, TOPIC_OPERATIONS, ClusterRequest, ClusterServices
from protocol.errors import ErrorCode
from protocol.messages import field
from protocol.metadata import BrokerPiece, PartitionPiece, encode_metadata_body, encode_topic
from s3stream.errors import OutcomeUnknown, Retry

BY_ID_FROM = 12
KEPT_NAMES = 16
"""Answers about at most this many topics are kept too; clients with larger lists are few and varied."""


class Form(NamedTuple):
    """What the bytes of an answer depend on besides its content."""

    version: int
    topic_operations: bool
    cluster_operations: bool


async def handle(services: ClusterServices, request: ClusterRequest) -> bytes:
    """The serialised response body, without header."""
    version, body = request.api_version, request.body
    form = Form(
        version,
        field(body, "include_topic_authorized_operations", False),
        field(body, "include_cluster_authorized_operations", False),
    )
    topics = body.topics
    if topics is None or (version == 0 and not topics):
        return _all_topics(services.image, form)
    names = [topic.name for topic in topics]
    ids = [field(topic, "topic_id", None) for topic in topics]
    by_id = version >= BY_ID_FROM and any(each is not None for each in ids)
    if version < BY_ID_FROM and any(each is not None for each in ids):
        return _no_ids(form, topics)
    if not by_id:
        refused = await _create_missing(services, names, field(body, "allow_auto_topic_creation", True))
        return _named_topics(services.image, form, names, refused)
    image = services.image
    # One id turns the whole request into one by id: Kafka then leaves out what has only a name.
    pieces = [
        _by_id(image, form, topic_id) if topic_id is not None else _by_name(image, form, None, {})
        for name, topic_id in zip(names, ids, strict=True)
        if topic_id is not None or name is None
    ]
    return _body(image, form, pieces)


def _no_ids(form: Form, topics: Sequence[Any]) -> bytes:
    """Versions 10 and 11 carry ids that they do not support: INVALID_REQUEST for each topic, and no brokers."""
    pieces = [
        encode_topic(
            form.version,
            error_code=ErrorCode.INVALID_REQUEST,
            name=topic.name or "",
            topic_id=topic.topic_id,
            internal=False,
            partitions=(),
        )
        for topic in topics
    ]
    return encode_metadata_body(form.version, brokers=[], cluster_id=None, controller_id=-1, topics=pieces)


async def _create_missing(
    services: ClusterServices, names: Sequence[str | None], allowed: bool
) -> dict[str, ErrorCode]:
    """Create what is missing, if it may be; the codes of the names for which that failed."""
    image = services.image
    missing = [name for name in names if name and image.topic(name) is None and name_problem(name) is None]
    if not missing or not allowed or not services.settings.topics.auto_create:
        return {}
    try:
        refused = await services.cluster.create_missing(missing)
    except (Retry, OutcomeUnknown):
        return dict.fromkeys(missing, ErrorCode.LEADER_NOT_AVAILABLE)
    return {name: refusal.code for name, refusal in refused.items()}


def _all_topics(image: ClusterImage, form: Form) -> bytes:
    kept = image.encoded.get((form, None))
    if kept is not None:
        return kept
    pieces = [_piece(image, form, topic) for topic in image.topics.values()]
    return image.keep_answer((form, None), _body(image, form, pieces))


def _named_topics(image: ClusterImage, form: Form, names: Sequence[str | None], refused: dict[str, ErrorCode]) -> bytes:
    key = (form, *names)
    kept = image.encoded.get(key) if not refused else None
    if kept is not None:
        return kept
    pieces = [_by_name(image, form, name, refused) for name in dict.fromkeys(names)]
    answer = _body(image, form, pieces)
    known = not refused and all(name in image.topics for name in names)
    return image.keep_answer(key, answer) if known and len(names) <= KEPT_NAMES else answer


def _by_name(image: ClusterImage, form: Form, name: str | None, refused: dict[str, ErrorCode]) -> bytes:
    topic = image.topic(name) if name is not None else None
    if topic is not None:
        return _piece(image, form, topic)
    if name is None or name_problem(name) is not None:
        code = ErrorCode.INVALID_TOPIC_EXCEPTION
    else:
        code = refused.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return encode_topic(form.version, error_code=code, name=name or "", topic_id=None, internal=False, partitions=())


def _by_id(image: ClusterImage, form: Form, topic_id: uuid.UUID) -> bytes:
    topic = image.topic_by_id(topic_id)
    if topic is not None:
        return _piece(image, form, topic)
    code = ErrorCode.UNKNOWN_TOPIC_ID
    return encode_topic(form.version, error_code=code, name=None, topic_id=topic_id, internal=False, partitions=())


def _piece(image: ClusterImage, form: Form, topic: TopicImage) -> bytes:
    """The topic's bytes, made once per version and value of the topic."""
    key = form.version, form.topic_operations
    kept = topic.encoded.get(key)
    if kept is None:
        kept = topic.encoded[key] = encode_topic(
            form.version,
            error_code=ErrorCode.NONE,
            name=topic.name,
            topic_id=topic.topic_id,
            internal=topic.internal,
            partitions=_partitions(image, topic),
            operations=TOPIC_OPERATIONS if form.topic_operations else NO_OPERATIONS,
        )
    return kept


def _partitions(image: ClusterImage, topic: TopicImage) -> list[PartitionPiece]:
    replicas: dict[int, tuple[int, ...]] = {}
    pieces = []
    for index, leader in enumerate(topic.leader_ids):
        if leader not in replicas:
            replicas[leader] = image.replicas(topic, index)
        code = ErrorCode.LEADER_NOT_AVAILABLE if leader == NO_LEADER else ErrorCode.NONE
        pieces.append(PartitionPiece(code, leader, topic.leader_epochs[index], replicas[leader]))
    return pieces


def _body(image: ClusterImage, form: Form, pieces: Sequence[bytes]) -> bytes:
    return encode_metadata_body(
        form.version,
        brokers=[BrokerPiece(*broker) for broker in image.brokers],
        cluster_id=image.cluster_id,
        controller_id=image.controller_id,
        topics=pieces,
        operations=CLUSTER_OPERATIONS if form.cluster_operations else NO_OPERATIONS,
    )
