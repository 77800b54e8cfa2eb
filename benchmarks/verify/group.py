"""Members of the workload's consumer group: they read on from what is committed, and commit what they read.

Each commits only partitions that it owns, in rising order, one commit at a time. After a commit of unknown outcome it
leaves and comes back as a new member, so that one that is still on its way cannot overtake the next. So committed
offsets may never go back.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.verify.consuming import ReaderThread, connect, note_reads, where
from benchmarks.verify.history import OffsetCommit, Outcome, Partition

_BATCH = 200
_WAIT_S = 0.2


class Member(ReaderThread):
    """One member of `group`; `commits` counts what was acknowledged."""

    commits = 0

    def work(self) -> None:
        while not self.stopping.is_set():
            self._be_a_member()

    def _be_a_member(self) -> None:
        """Until told to stop, or until an outcome is unknown."""
        consumer = connect(
            self.plan,
            self.name,
            self.recorder,
            self.group,
            **{"auto.offset.reset": "earliest", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500},
        )
        positions: dict[Partition, int] = {}

        def changed(_: Consumer, partitions: list[TopicPartition]) -> None:
            for each in partitions:
                positions.pop(where(each), None)

        topics = sorted({each.topic for each in self.partitions})
        consumer.subscribe(topics, on_assign=changed, on_revoke=changed, on_lost=changed)
        sure = True
        while sure and not self.stopping.is_set():
            began_s = self.recorder.now_s()
            messages = consumer.consume(_BATCH, timeout=_WAIT_S)
            read = {where(message) for message in messages if message.error() is None}
            note_reads(self.recorder, self.name, messages, began_s, positions)
            owned = {where(each) for each in consumer.assignment()}
            commit = sorted(read & owned)
            if commit:
                sure = self._commit(consumer, [(each, positions[each]) for each in commit])
        consumer.close()

    def _commit(self, consumer: Consumer, positions: Sequence[tuple[Partition, int]]) -> bool:
        """Whether all of it was acknowledged. The client may have asked several times: an error proves nothing."""
        member = consumer.memberid() or ""
        commits = {
            partition: OffsetCommit(
                client=self.name, partition=partition, group=self.group, member=member, offset=offset
            )
            for partition, offset in positions
        }
        for operation in commits.values():
            self.recorder.invoke(operation)
        asked = [TopicPartition(each.topic, each.index, offset) for each, offset in positions]
        try:
            answers = consumer.commit(offsets=asked, asynchronous=False)
        except KafkaException as error:
            for operation in commits.values():
                self.recorder.end(operation, Outcome.UNKNOWN, error.args[0].name())
            return False
        sure = True
        for answer in answers or ():
            operation = commits.pop(where(answer))
            if answer.error is None:
                self.recorder.end(operation, Outcome.OK)
                self.commits += 1
            else:
                self.recorder.end(operation, Outcome.UNKNOWN, answer.error.name())
                sure = False
        for operation in commits.values():
            self.recorder.end(operation, Outcome.UNKNOWN, "no answer")
        return sure and not commits
