"""Checkers of what lies inside, on hand-made values: good ones pass, each kind of wrong one is caught."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.verify.checkers import ceilings, objects, ranges
from benchmarks.verify.inside import CommitFacts, ObjectFacts, RangeFacts, RemovalFacts, StoredFacts, StreamFacts, Usage

KEY = "abcd/cluster/d/0000000000000007-00000000000000ff"
OBJECT = ObjectFacts(7, KEY, 100, references=2, referable=True)
RANGES = [RangeFacts(1, 0, 10, 7), RangeFacts(2, 5, 8, 7)]
STORED = StoredFacts(KEY, 100, runs=((1, 0, 10), (2, 5, 8)))
STREAM = StreamFacts(1, epoch=3, start_offset=0, end_offset=20, epochs=((0, 1), (10, 3)))


def wrong(*, object_: ObjectFacts = OBJECT, stored: StoredFacts | None = STORED, now_ms: int = 0) -> list[str]:
    found = objects.check([object_], RANGES, [stored] if stored else [], now_ms)
    return [each.text for each in found]


def test_good_objects_pass() -> None:
    assert wrong() == []


def test_a_missing_a_broken_and_a_wrong_object_are_caught() -> None:
    assert all("not in the bucket" in text for text in wrong(stored=None))
    assert len(wrong(stored=None)) == 2
    assert "does not verify: CRC" in wrong(stored=replace(STORED, problem="CRC"))[0]
    assert "99 bytes" in wrong(stored=replace(STORED, size_bytes=99))[0]
    assert wrong(stored=replace(STORED, runs=((1, 0, 9), (2, 5, 8)))) == ["does not hold [0, 10) of stream 1"]


def test_ranges_of_an_unknown_or_uncommitted_object_are_caught() -> None:
    assert len(objects.check([], RANGES, [replace(STORED, excused=True)], 0)) == 2
    assert any("not committed" in text for text in wrong(object_=replace(OBJECT, referable=False)))


def test_a_wrong_count_of_references_is_caught() -> None:
    assert wrong(object_=replace(OBJECT, references=3)) == ["counts 3 references, 2 ranges point to it"]


def test_what_is_overdue_is_caught_and_what_is_due_later_is_not() -> None:
    dead = ObjectFacts(8, KEY.replace("7-", "8-"), 100, 0, False, due_ms=1_000)
    assert objects.check([OBJECT, dead], RANGES, [STORED], 999) == []
    assert len(objects.check([OBJECT, dead], RANGES, [STORED], 1_000)) == 1


def test_an_orphan_is_caught_unless_the_world_made_it_or_an_upload_is_under_way() -> None:
    orphan = StoredFacts(KEY.replace("7-", "9-"), 5)
    assert [each.partition.index for each in objects.check([OBJECT], RANGES, [STORED, orphan], 0)] == [-1]
    assert objects.check([OBJECT], RANGES, [STORED, replace(orphan, excused=True)], 0) == []
    prepared = ObjectFacts(9, "", 0, 0, False, due_ms=50)
    assert objects.check([OBJECT, prepared], RANGES, [STORED, orphan], 0) == []


def texts(stream: StreamFacts, *rows: tuple[int, int]) -> list[str]:
    return [each.text for each in ranges.check([stream], [RangeFacts(1, start, end, 7) for start, end in rows])]


def test_contiguous_ranges_pass() -> None:
    assert texts(STREAM, (0, 10), (10, 20)) == []
    assert texts(replace(STREAM, start_offset=5), (10, 20), (0, 10)) == []
    assert texts(replace(STREAM, start_offset=20)) == []
    assert texts(replace(STREAM, start_offset=25)) == []


def test_gaps_overlaps_and_short_ends_are_caught() -> None:
    assert texts(STREAM, (0, 10), (11, 20)) == ["a range ends at 10 and the next begins at 11"]
    assert texts(STREAM, (0, 10), (9, 20)) == ["a range ends at 10 and the next begins at 9"]
    assert texts(STREAM, (0, 10)) == ["the ranges end at 10, the stream at 20"]
    assert texts(STREAM, (1, 20)) == ["the ranges begin at 1, the stream at 0"]
    assert texts(STREAM) == ["nothing holds [0, 20)"]
    assert "the range [10, 10) is empty" in texts(STREAM, (0, 10), (10, 10), (10, 20))


def test_ranges_of_no_stream_are_caught() -> None:
    assert len(ranges.check([], [RangeFacts(1, 0, 5, 7)])) == 1


def test_epochs_that_do_not_rise_are_caught() -> None:
    rows = (0, 20)
    assert len(texts(replace(STREAM, epochs=((0, 3), (10, 3))), rows)) == 1
    assert len(texts(replace(STREAM, epochs=((10, 1), (0, 2))), rows)) == 1
    assert len(texts(replace(STREAM, epoch=2), rows)) == 1


def test_a_resource_above_its_ceiling_is_reported_once_at_its_worst() -> None:
    usages = [Usage("cache", 5, 10, 1), Usage("cache", 10, 10, 2)]
    assert ceilings.check(usages) == []
    (found,) = ceilings.check([*usages, Usage("cache", 12, 10, 3), Usage("cache", 15, 10, 4), Usage("wal", 1, 10, 5)])
    assert found.text.startswith("15 at 4.000 s")


def test_an_object_committed_before_it_was_stored_is_caught() -> None:
    assert objects.check_commits([CommitFacts(7, 2.0, 1.0)]) == []
    assert len(objects.check_commits([CommitFacts(7, 2.0, 3.0), CommitFacts(8, 2.0, None)])) == 2


def test_an_object_released_within_its_grace_is_caught() -> None:
    assert objects.check_grace([RemovalFacts(7, 1_000, 3_000)], 2_000) == []
    assert len(objects.check_grace([RemovalFacts(7, 1_000, 2_999)], 2_000)) == 1
