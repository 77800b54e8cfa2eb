"""Checkers of the log on hand-made histories: good ones pass, each kind of wrong one is caught."""

from __future__ import annotations

from benchmarks.verify.checkers import acked_is_readable, deleted_topics, durable_before_ack, linearizable, liveness
from benchmarks.verify.history import Bounds, Delete, History, Outcome, Partition, Produce, Read
from benchmarks.verify.inside import Durable
from tests.unit.verify.scripts import P, add


def produce(letters: str, offset: int | None, partition: Partition = P, producer_id: int | None = None) -> Produce:
    values = tuple(letter.encode() for letter in letters)
    return Produce(client="p", partition=partition, values=values, base_offset=offset, producer_id=producer_id)


def read(offset: int, letters: str, partition: Partition = P) -> Read:
    records = tuple((offset + place, letter.encode()) for place, letter in enumerate(letters))
    return Read(client="c", partition=partition, offset=offset, records=records, high_watermark=offset + len(letters))


# -- linearizable


def test_appends_in_the_order_of_time_are_linearizable() -> None:
    history = History()
    add(history, produce("ab", 0), 0, 1)
    add(history, produce("c", 3), 2, 5)  # together with the next one: any order will do
    add(history, produce("d", 2), 3, 4)
    add(history, read(0, "abdc"), 6, 7)
    assert linearizable.check(history) == []


def test_a_later_append_below_an_earlier_one_is_caught() -> None:
    history = History()
    add(history, produce("a", 5), 0, 1)
    add(history, produce("b", 4), 2, 3)
    (found,) = linearizable.check(history)
    assert "offset 4 although offset 5 was there" in found.text


def test_an_append_below_what_a_reader_had_seen_is_caught() -> None:
    history = History()
    add(history, produce("a", None), 0, None)
    add(history, read(7, "a"), 1, 2)
    add(history, produce("b", 3), 3, 4)
    assert len(linearizable.check(history)) == 1


def test_a_repeat_is_answered_with_the_place_of_the_first_attempt() -> None:
    history = History()
    add(history, produce("a", None, producer_id=1), 0, 1, Outcome.UNKNOWN)
    add(history, produce("b", 1), 2, 3)
    add(history, produce("a", 0, producer_id=1), 4, 5)
    assert linearizable.check(history) == []


def test_a_record_from_the_future_is_caught() -> None:
    history = History()
    add(history, read(0, "a"), 0, 1)
    add(history, produce("a", 0), 2, 3)
    assert any("before its record was sent" in each.text for each in linearizable.check(history))


# -- durable before ack


def test_an_ack_after_durability_is_good_for_the_repeat_too() -> None:
    history = History()
    add(history, produce("ab", 0, producer_id=1), 0, 2)
    add(history, produce("ab", 0, producer_id=1), 1, 2)
    assert durable_before_ack.check(history, [Durable(P, 0, 2, 1.5), Durable(P, 0, 2, 9.0)]) == []


def test_a_duplicate_that_is_answered_early_is_caught() -> None:
    history = History()
    add(history, produce("ab", 0, producer_id=1), 0, 3)
    add(history, produce("ab", 0, producer_id=1), 1, 2)
    (found,) = durable_before_ack.check(history, [Durable(P, 0, 2, 2.5)])
    assert "produce 1" in found.text
    assert "durable only at 2.5" in found.text


def test_an_ack_of_what_never_was_durable_is_caught() -> None:
    history = History()
    add(history, produce("ab", 4), 0, 3)
    (found,) = durable_before_ack.check(history, [Durable(P, 0, 4, 1), Durable(Partition("t", 1), 4, 6, 1)])
    assert "never durable" in found.text


def test_durability_in_other_pieces_counts() -> None:
    history = History()
    add(history, produce("abc", 4), 0, 3)
    assert durable_before_ack.check(history, [Durable(P, 0, 6, 1), Durable(P, 6, 9, 2)]) == []
    assert len(durable_before_ack.check(history, [Durable(P, 0, 6, 1), Durable(P, 6, 9, 4)])) == 1


# -- deleted topics


def test_refusals_after_a_deletion_are_good() -> None:
    history = History()
    add(history, produce("a", 0), 0, 1)
    add(history, Delete(client="d", partition=P), 2, 4)
    add(history, produce("b", 1), 3, 5)  # began before the deletion was done
    add(history, produce("c", None), 6, 7, Outcome.FAIL)
    assert deleted_topics.check(history) == []


def test_an_ack_and_an_answer_after_the_deletion_are_caught() -> None:
    history = History()
    add(history, Delete(client="d", partition=P), 0, 1)
    add(history, produce("b", 1), 2, 3)
    add(history, read(0, ""), 2, 3)
    add(history, produce("c", 1, Partition("t", 1)), 2, 3)  # another one
    assert [each.partition for each in deleted_topics.check(history)] == [P, P]


def test_a_deleted_topic_needs_no_final_read_but_its_reads_must_agree_with_its_acks() -> None:
    history = History()
    add(history, produce("ab", 0), 0, 1)
    add(history, read(0, "ab"), 2, 3)
    add(history, Delete(client="d", partition=P), 4, 5)
    assert acked_is_readable.check(history) == []
    add(history, read(1, "x"), 2, 3)
    assert len(acked_is_readable.check(history)) >= 1


def test_a_deletion_that_failed_excuses_nothing() -> None:
    history = History()
    add(history, produce("ab", 0), 0, 1)
    add(history, Delete(client="d", partition=P), 4, 5, Outcome.FAIL)
    assert any("never read back" in each.text for each in acked_is_readable.check(history))


# -- liveness


def bounds() -> Bounds:
    return Bounds(client="l", partition=P, high_watermark=1)


def test_trouble_before_healing_and_while_recovering_is_no_matter() -> None:
    history = History()
    add(history, bounds(), 0, 50, Outcome.FAIL)
    add(history, bounds(), 101, 104, Outcome.UNKNOWN)
    add(history, bounds(), 120, 121)
    add(history, produce("a", None), 130, None)  # acks=0
    assert liveness.check(history, 100, 10, 5) == []


def test_failures_waits_and_silence_after_recovery_are_caught() -> None:
    history = History()
    add(history, bounds(), 111, 112, Outcome.FAIL)
    add(history, bounds(), 113, 120)
    add(history, bounds(), 114, None)
    assert [
        "fail" in each.text or "took" in each.text or "never" in each.text
        for each in liveness.check(history, 100, 10, 5)
    ] == [True, True, True]
