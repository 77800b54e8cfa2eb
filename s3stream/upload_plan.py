"""Decides what an upload takes: a pure planner over the streams that have something in no committed object yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from s3stream.object_format import KIND_STREAM, KIND_STREAM_SET
from s3stream.settings import EngineSettings


class DirtyStream(NamedTuple):
    """A stream with un-uploaded bytes. `size_bytes` counts those of `[uploaded_end, next_offset)`, the part that is
    not durable yet included; `dirty_since_s` is loop time."""

    stream_id: int
    uploaded_end: int
    durable_end: int
    size_bytes: int
    dirty_since_s: float


class PlannedRun(NamedTuple):
    """Take the batches of `[start_offset, below)`, as many whole ones as `max_bytes` allow but at least one."""

    stream_id: int
    start_offset: int
    below: int
    max_bytes: int


class PlannedObject(NamedTuple):
    kind: int
    runs: Sequence[PlannedRun]


class UploadPlan(NamedTuple):
    """Objects of one upload, committed together. Runs of an object ascend by stream id."""

    objects: Sequence[PlannedObject]


def is_due(tail_bytes: int, oldest_since_s: float, settings: EngineSettings, now_s: float) -> bool:
    """Whether an upload is cut for size or for age."""
    return tail_bytes >= settings.upload_size_bytes or now_s >= due_at_s(oldest_since_s, settings)


def due_at_s(oldest_since_s: float, settings: EngineSettings) -> float:
    """When the oldest un-uploaded byte is too old, in loop time."""
    return oldest_since_s + settings.upload_interval_ms / 1000


def plan_cut(dirty: Sequence[DirtyStream], settings: EngineSettings) -> UploadPlan | None:
    """Everything durable, longest dirty first, up to `upload_max_bytes`; None when nothing durable is there.

    Streams under `stream_object_bytes` share one stream set object, larger ones get one of their own.
    """
    shared: list[PlannedRun] = []
    objects: list[PlannedObject] = []
    room = settings.upload_max_bytes
    for stream in sorted(dirty, key=lambda each: (each.dirty_since_s, each.stream_id)):
        if stream.durable_end <= stream.uploaded_end:
            continue
        if room <= 0:
            break
        run = PlannedRun(stream.stream_id, stream.uploaded_end, stream.durable_end, room)
        if stream.size_bytes >= settings.stream_object_bytes:
            objects.append(PlannedObject(KIND_STREAM, (run,)))
        else:
            shared.append(run)
        room -= stream.size_bytes
    if shared:
        objects.insert(0, PlannedObject(KIND_STREAM_SET, tuple(sorted(shared))))
    return UploadPlan(tuple(objects)) if objects else None
