"""The copy of a shard's live records at the end of its own log, after which everything before it may be trimmed.

Appends go on between the slices. That is safe: the last record wins per key, each slice writes the values of its own
moment, and what is deleted meanwhile leaves its tombstone above the start of the copy. Cut short at any point nothing
is lost: the old records are all still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from broker.groups.log import CoordinatorLog, Done
from broker.groups.records import Record
from broker.groups.state import PersistedState
from s3stream.errors import Retry

RECORDS_PER_TURN = 200
"""Records replayed or rewritten between two turns of the event loop: well under 5 ms."""
_RECORD_OVERHEAD_BYTES = 16


class Checkpoint(NamedTuple):
    """A durable copy: from `start_offset` on, the log holds everything."""

    start_offset: int
    size_bytes: int


def size_bytes(records: Sequence[Record]) -> int:
    """About what the records take in the log."""
    return sum(len(key) + len(value or b"") + _RECORD_OVERHEAD_BYTES for key, value in records)


async def write_checkpoint(
    log: CoordinatorLog, state: PersistedState, appended: Done, is_active: Callable[[], bool]
) -> Checkpoint:
    """Copy the live records of `state` and wait until the copy is durable. Retry when it could not be finished."""
    start_offset = log.end_offset
    keys = state.live_keys()
    written_bytes = 0
    for begin in range(0, len(keys), RECORDS_PER_TURN):
        await asyncio.sleep(0)
        if not is_active():
            raise Retry("the partition is no longer served here")
        live = (state.live_record(key) for key in keys[begin : begin + RECORDS_PER_TURN])
        records = tuple(record for record in live if record is not None)
        if records:
            log.append(records, appended)
            written_bytes += size_bytes(records)
            await _durable(log)
    await _durable(log)
    return Checkpoint(start_offset, written_bytes)


async def _durable(log: CoordinatorLog) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: BaseException | None) -> None:
        if waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    log.when_durable(done)
    await waiting
