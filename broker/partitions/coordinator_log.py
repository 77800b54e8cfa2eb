"""The log of a coordinator (groups, later transactions) on a partition of an internal topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from broker.groups.records import Record as CoordinatorRecord
from broker.partitions.log import Done, PartitionLog
from protocol.record_codec import Record, encode_batch, iter_batches, iter_records
from s3stream.engine import StreamEngine
from s3stream.errors import Retry

_READ_BYTES = 1 << 20


class PartitionCoordinatorLog:
    """Implements `broker.groups.log.CoordinatorLog`: records in Kafka's formats, durable like any other record."""

    def __init__(self, log: PartitionLog, engine: StreamEngine) -> None:
        self._log = log
        self._engine = engine
        self.leader_epoch = log.leader_epoch

    @property
    def end_offset(self) -> int:
        return self._log.log_end_offset

    @property
    def size_bytes(self) -> int:
        return self._log.stream.size_bytes

    def append(self, records: Sequence[CoordinatorRecord], done: Done) -> None:
        """One batch of all records. Retry when there is no room: nothing was applied."""
        now_ms = self._log.clock.now_ms()
        batch = encode_batch([Record(key=key, value=value, timestamp_ms=now_ms) for key, value in records])
        if not self._engine.admit(len(batch)):
            raise Retry(f"no room for a coordinator batch of {len(batch)} bytes: uploads are behind")
        self._log.append_internal(memoryview(batch), len(records), now_ms, done)

    def when_durable(self, done: Done) -> None:
        """`done` once everything appended so far is durable; at once if it is."""
        self._log.stream.when_durable(self._log.stream.next_offset, done)

    async def read_all(self) -> AsyncIterator[Sequence[CoordinatorRecord]]:
        """Every durable record in order, a batch at a time."""
        stream = self._log.stream
        offset = stream.start_offset
        end = stream.durable_end
        while offset < end:
            batches = await stream.read(offset, _READ_BYTES, end)
            if not batches:
                raise Retry(f"stream {stream.stream_id}: nothing readable at offset {offset} below {end}")
            for whole in batches:
                for batch in iter_batches(whole):
                    records = [record for record in iter_records(batch) if record.offset >= offset]
                    if records:
                        yield [(record.key or b"", record.value) for record in records]
                        offset = records[-1].offset + 1

    async def trim(self, offset: int) -> None:
        """Records below `offset` are no longer needed."""
        await self._log.stream.trim(offset)
