"""Checker: the ranges of each stream are contiguous, reach from its start to its end, and its epochs rise with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.verify.history import Anomaly, Partition
from benchmarks.verify.inside import RangeFacts, StreamFacts

NAME = "ranges"


def check(streams: Sequence[StreamFacts], ranges: Sequence[RangeFacts]) -> list[Anomaly]:
    """Anomalies carry "stream" as their topic and the stream id as their index."""
    by_stream: dict[int, list[RangeFacts]] = defaultdict(list)
    for each in ranges:
        by_stream[each.stream_id].append(each)
    anomalies = []
    for stream in streams:
        rows = sorted(by_stream.pop(stream.stream_id, []), key=lambda row: row.start_offset)
        texts = [*_contiguous(stream, rows), *_epochs(stream)]
        anomalies += [Anomaly(NAME, Partition("stream", stream.stream_id), text) for text in texts]
    for stream_id in sorted(by_stream):
        anomalies.append(Anomaly(NAME, Partition("stream", stream_id), "has ranges and does not exist"))
    return anomalies


def _contiguous(stream: StreamFacts, rows: Sequence[RangeFacts]) -> list[str]:
    texts = [
        f"the range [{row.start_offset}, {row.end_offset}) is empty"
        for row in rows
        if row.end_offset <= row.start_offset
    ]
    for before, after in pairwise(rows):
        if before.end_offset != after.start_offset:
            texts.append(f"a range ends at {before.end_offset} and the next begins at {after.start_offset}")
    if rows and rows[-1].end_offset != stream.end_offset:
        texts.append(f"the ranges end at {rows[-1].end_offset}, the stream at {stream.end_offset}")
    if rows and rows[0].start_offset > stream.start_offset:
        texts.append(f"the ranges begin at {rows[0].start_offset}, the stream at {stream.start_offset}")
    if not rows and stream.start_offset < stream.end_offset:
        texts.append(f"nothing holds [{stream.start_offset}, {stream.end_offset})")
    return texts


def _epochs(stream: StreamFacts) -> list[str]:
    texts = []
    for (start, epoch), (next_start, next_epoch) in pairwise(stream.epochs):
        if next_start < start or next_epoch <= epoch:
            texts.append(f"epoch {next_epoch} from offset {next_start} follows epoch {epoch} from offset {start}")
    if stream.epochs and stream.epochs[-1][1] > stream.epoch:
        texts.append(f"its epoch is {stream.epoch}, its history goes up to {stream.epochs[-1][1]}")
    return texts
