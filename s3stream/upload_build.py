"""Builds the objects of an upload from the tail cache, in slices short enough for the event loop."""

from __future__ import annotations

import asyncio
import logging
from operator import sub
from typing import NamedTuple

from s3stream.details import StreamDetails
from s3stream.errors import Corrupt
from s3stream.object_builder import BuiltObject, ObjectBuilder, Run
from s3stream.settings import EngineSettings
from s3stream.stream import Stream
from s3stream.stream_state import FoldState, fold_in_slices
from s3stream.tail_cache import TailCache
from s3stream.upload_plan import PlannedObject, PlannedRun

_log = logging.getLogger(__name__)
_SLICE_BYTES = 4 << 20
"""Bytes whose CRC is computed before the loop gets its turn: about 0.3 ms."""
_SLICE_BATCHES = 512
"""Or so many batches: about 0.5 ms."""


class UploadRun(NamedTuple):
    """One stream's part of an upload. `batch_bytes` is what leaves the tail when it is committed."""

    stream: Stream
    end_offset: int
    batch_bytes: int
    state: bytes | None


class UploadObject(NamedTuple):
    object_id: int
    key: str
    kind: int
    built: BuiltObject
    runs: list[UploadRun]


class ObjectAssembler:
    """Turns planned objects into bytes: batches from the tail, STATE from the fold over exactly these batches."""

    def __init__(
        self,
        broker_id: int,
        broker_epoch: int,
        tail: TailCache,
        details: StreamDetails,
        fold_state: FoldState,
        settings: EngineSettings,
    ) -> None:
        self._identity = (broker_id, broker_epoch)
        self._tail, self._details = tail, details
        self._fold_state, self._settings = fold_state, settings

    async def assemble(
        self, planned: PlannedObject, streams: dict[int, Stream], object_id: int, key: str
    ) -> UploadObject | None:
        """None when no stream of the plan could be taken: gone meanwhile, or its state cannot be read."""
        builder = ObjectBuilder(object_id, *self._identity, planned.kind, self._settings.block_size_bytes)
        runs: list[UploadRun] = []
        for run in planned.runs:
            stream = streams[run.stream_id]
            if stream.gone is None:
                added = await self._add_run(builder, run, stream)
                if added is not None:
                    runs.append(added)
        return UploadObject(object_id, key, planned.kind, builder.finish(), runs) if runs else None

    async def _add_run(self, builder: ObjectBuilder, planned: PlannedRun, stream: Stream) -> UploadRun | None:
        try:
            state_before = await self._details.committed_state(stream)
        except Corrupt as error:
            # Its frames stay in the WAL and in the tail; the other streams of the upload must not wait for it.
            _log.error("stream %d is left out of an upload: %s", stream.stream_id, error)
            return None
        if stream.gone is not None:
            return None
        held = self._tail.held(stream.stream_id)
        # After a trim past the uploaded end the batches may begin behind it.
        begin = planned.start_offset if held is None else max(planned.start_offset, held[0])
        cut = self._tail.take_for_upload(stream.stream_id, begin, planned.below, planned.max_bytes)
        state, aborted = await fold_in_slices(self._fold_state, state_before, cut.views)
        bases, ends = cut.base_offsets, cut.end_offsets
        counts = list(map(sub, ends, bases))
        run = Run(stream.stream_id, bases, ends, counts, cut.max_timestamps_ms, cut.views, state, aborted)
        batch_bytes = sum(map(len, cut.views))
        slice_bytes = min(_SLICE_BYTES, _SLICE_BATCHES * batch_bytes // len(ends))
        done_bytes = 0
        for block_bytes in builder.add_run_in_steps(run):
            done_bytes += block_bytes
            if done_bytes >= slice_bytes or not block_bytes:
                done_bytes = 0
                await asyncio.sleep(0)
        return UploadRun(stream, ends[-1], batch_bytes, state)
