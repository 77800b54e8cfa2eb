"""Checker: every referenced object exists and verifies, and nothing stays in the bucket after its grace.

What the world put back behind everybody's back (a request that took effect after its deletion) is excused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.verify.history import Anomaly, Partition
from benchmarks.verify.inside import CommitFacts, ObjectFacts, RangeFacts, RemovalFacts, StoredFacts

NAME = "objects"


def check(
    objects: Sequence[ObjectFacts], ranges: Sequence[RangeFacts], stored: Sequence[StoredFacts], now_ms: int
) -> list[Anomaly]:
    """`stored`: the keys of data objects in the bucket; `now_ms`: what is due by then should have been removed.
    Anomalies carry "object" as their topic and the object id, -1 for none, as their index."""
    found: list[tuple[int, str]] = []
    by_id = {each.object_id: each for each in objects}
    by_key = {each.key: each for each in stored}
    references = Counter(each.object_id for each in ranges)
    for row in ranges:
        found += [(row.object_id, text) for text in _range(row, by_id.get(row.object_id), by_key)]
    for each in objects:
        if each.referable and references[each.object_id] != each.references:
            text = f"counts {each.references} references, {references[each.object_id]} ranges point to it"
            found.append((each.object_id, text))
        if each.due_ms is not None and each.due_ms <= now_ms:
            found.append((each.object_id, f"was due for removal at {each.due_ms} and is there at {now_ms}"))
    known = {each.key for each in objects if each.key}
    unnamed = {each.object_id for each in objects if not each.key}
    for stored_object in stored:
        if stored_object.key not in known and not stored_object.excused and _id_of(stored_object.key) not in unnamed:
            found.append((-1, f"{stored_object.key} is in the bucket and nobody knows of it"))
    return [Anomaly(NAME, Partition("object", object_id), text) for object_id, text in found]


def check_commits(commits: Iterable[CommitFacts]) -> list[Anomaly]:
    """An object is in the bucket before the metadata refer to it: who dies in between loses what it held."""
    return [
        Anomaly(
            NAME,
            Partition("object", each.object_id),
            f"was committed at {each.at_s:.6f} s and is in the bucket since {each.stored_s}",
        )
        for each in commits
        if each.stored_s is None or each.stored_s > each.at_s
    ]


def check_grace(removals: Iterable[RemovalFacts], grace_ms: int) -> list[Anomaly]:
    """No object is removed while somebody may still read it: not before its grace is over. For a wall clock that was
    never set back."""
    return [
        Anomaly(
            NAME,
            Partition("object", each.object_id),
            f"dead since {each.destroyed_ms} and released for removal at {each.at_ms}, its grace is {grace_ms} ms",
        )
        for each in removals
        if each.at_ms < each.destroyed_ms + grace_ms
    ]


def _range(row: RangeFacts, target: ObjectFacts | None, by_key: dict[str, StoredFacts]) -> list[str]:
    what = f"[{row.start_offset}, {row.end_offset}) of stream {row.stream_id}"
    if target is None:
        return [f"holds {what} and is not in the metadata"]
    if not target.referable:
        return [f"holds {what} and is not committed"]
    stored = by_key.get(target.key)
    if stored is None:
        return [f"holds {what} and is not in the bucket: {target.key}"]
    if stored.problem:
        return [f"holds {what} and does not verify: {stored.problem}"]
    if stored.size_bytes != target.size_bytes:
        return [f"has {stored.size_bytes} bytes, {target.size_bytes} are expected"]
    for stream_id, start, end in stored.runs:
        if stream_id == row.stream_id and start <= row.start_offset and row.end_offset <= end:
            return []
    return [f"does not hold {what}"]


def _id_of(key: str) -> int:
    """The object id in a data key, `.../d/<object id, hexadecimal>-<random>`; -1 when there is none."""
    name = key.rpartition("/")[2].partition("-")[0]
    try:
        return int(name, 16)
    except ValueError:
        return -1
