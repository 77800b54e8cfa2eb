"""Moving the start of a stream: durable in the metadata first, then in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from s3stream.errors import Fenced, NotFound, OffsetOutOfRange
from s3stream.meta.store import MetaStore
from s3stream.ports import Clock
from s3stream.stream import Stream
from s3stream.tail_cache import TailCache


class Trimmer:
    """Trims and answers from the metadata of a stream.

    `commits` is the lock that an upload holds from its commit until the books in memory agree with it: a trim in
    between would count bytes twice.
    """

    def __init__(
        self,
        meta: MetaStore,
        tail: TailCache,
        clock: Clock,
        commits: asyncio.Lock,
        lose_stream: Callable[[Stream, BaseException], None],
    ) -> None:
        self._meta, self._tail, self._clock = meta, tail, clock
        self._commits, self._lose_stream = commits, lose_stream

    async def trim(self, stream: Stream, start_offset: int) -> None:
        """See `Stream.trim`. Retry and OutcomeUnknown: call again, it is idempotent.

        Batches beyond the uploaded end stay in WAL and tail until an upload has passed them, dead or not: the state
        that is folded over them must not miss any.
        """
        if stream.gone is not None:
            raise stream.gone
        if start_offset > stream.durable_end:
            raise OffsetOutOfRange(f"cannot trim to {start_offset}, {stream!r} is durable up to {stream.durable_end}")
        if start_offset <= stream.start_offset:
            return
        async with self._commits:
            try:
                reached = await self._meta.trim_stream(
                    stream.stream_id, stream.epoch, start_offset, self._clock.now_ms()
                )
                rows = await self._meta.stream_rows([stream.stream_id])
            except (Fenced, NotFound) as error:
                if stream.gone is None:
                    self._lose_stream(stream, error)
                raise
            stream.move_start(reached)
            if rows:
                stream.committed_bytes = rows[0].size_bytes
            self._tail.trim(stream.stream_id, min(stream.start_offset, stream.uploaded_end))

    async def epochs(self, stream: Stream) -> list[tuple[int, int]]:
        """See `Stream.epochs`."""
        if stream.gone is not None:
            raise stream.gone
        return await self._meta.epochs(stream.stream_id)
