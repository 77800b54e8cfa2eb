"""OffsetCommit (key 8), versions 2 to 10: store how far a group has read.

Behaviour: members commit with their id and generation; anyone may for a group without members (generation -1, no member
id), which makes a "simple" group. Topics by id since version 10 (KIP-848 family): an unknown id is UNKNOWN_TOPIC_ID, an
unknown name or partition UNKNOWN_TOPIC_OR_PARTITION; the others are stored. A refusal of the whole commit stands at
every partition. Retention per commit (versions 2 to 4, KIP-211) is honoured, as Kafka still does.
Answered when durable.
Deliberate omissions: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from broker.groups.messages import CommitCommand, CommitPartition, CommitReply, CommitTopic
from protocol.errors import ErrorCode
from protocol.messages import duration_ms, field

if TYPE_CHECKING:
    from broker.cluster.image import ClusterImage
    from broker.request import Request
    from broker.services import Services

_BY_ID_FROM_VERSION = 10


class _TopicAnswer:
    """One topic of the answer, in the request's order; `errors` fills up as the parts are decided. A partition named
    twice is answered twice, as in Kafka."""

    __slots__ = ("errors", "indexes", "name", "topic_id")

    def __init__(self, name: str, topic_id: UUID | None) -> None:
        self.name = name
        self.topic_id = topic_id
        self.indexes: list[int] = []
        self.errors: dict[int, ErrorCode] = {}

    def row(self) -> dict[str, Any]:
        partitions = [{"partition_index": index, "error_code": self.errors[index]} for index in self.indexes]
        return {"name": self.name, "topic_id": self.topic_id, "partitions": partitions}


async def handle(services: Services, request: Request) -> Mapping[str, Any]:
    body = request.body
    answers, topics = _sort_out(services.image, request)
    if topics:
        retention = field(body, "retention_time", None)
        reply = await services.groups.commit(
            CommitCommand(
                group_id=str(body.group_id),
                generation=_generation(body),
                member_id=body.member_id,
                group_instance_id=field(body, "group_instance_id", None),
                topics=topics,
                api_version=request.api_version,
                retention_time_ms=-1 if retention is None else duration_ms(retention),
            )
        )
        _fill(answers, topics, reply)
    return {"throttle_time": 0, "topics": [answer.row() for answer in answers]}


def _generation(body: Any) -> int:
    """The field's name changed with version 9."""
    return int(getattr(body, "generation_id_or_member_epoch", getattr(body, "generation_id", -1)))


def _sort_out(image: ClusterImage, request: Request) -> tuple[list[_TopicAnswer], list[CommitTopic]]:
    """An answer per topic, with the errors that are clear already, and what is left for the coordinator."""
    by_id = request.api_version >= _BY_ID_FROM_VERSION
    answers: list[_TopicAnswer] = []
    topics: list[CommitTopic] = []
    for asked in request.body.topics:
        if by_id:
            known = None if asked.topic_id is None else image.topic_by_id(asked.topic_id)
            answer = _TopicAnswer("" if known is None else known.name, asked.topic_id)
            missing = ErrorCode.UNKNOWN_TOPIC_ID
        else:
            known = image.topic(str(asked.name))
            answer = _TopicAnswer(str(asked.name), None)
            missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        answers.append(answer)
        parts = []
        for part in asked.partitions:
            index = int(part.partition_index)
            answer.indexes.append(index)
            if known is None:
                answer.errors[index] = missing
            elif not 0 <= index < known.partition_count:
                answer.errors[index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                epoch = int(field(part, "committed_leader_epoch", -1))
                parts.append(CommitPartition(index, int(part.committed_offset), epoch, part.committed_metadata))
                answer.errors[index] = ErrorCode.NONE
        if known is not None and parts:
            topics.append(CommitTopic(known.name, known.topic_id, parts))
    return answers, topics


def _fill(answers: list[_TopicAnswer], topics: list[CommitTopic], reply: CommitReply) -> None:
    by_name = {answer.name: answer for answer in answers}
    if reply.error is not ErrorCode.NONE:
        for topic in topics:
            for part in topic.partitions:
                by_name[topic.name].errors[part.partition] = reply.error
    for name, verdicts in reply.topics:
        by_name[name].errors.update(verdicts)
