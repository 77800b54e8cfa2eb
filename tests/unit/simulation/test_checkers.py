"""The checkers on hand-made histories: good ones pass, each kind of wrong one is caught."""

from __future__ import annotations

from typing import Any

from benchmarks.verify.checkers import acked_is_readable, offsets_and_watermarks
from benchmarks.verify.history import Bounds, History, Operation, Outcome, Partition, Produce, Read

P = Partition("t", 0)


class Script:
    """Builds a history; every step takes one second."""

    def __init__(self) -> None:
        self.history = History()
        self.now_s = 0.0

    def add(self, operation: Operation, outcome: Outcome = Outcome.OK) -> Script:
        self.history.invoke(operation, self.now_s)
        self.now_s += 1
        if outcome is not Outcome.UNKNOWN:
            self.history.end(operation, outcome, self.now_s)
        self.now_s += 1
        return self

    def ack(self, values: str, offset: int, **idempotent: Any) -> Script:
        return self.add(Produce(client="p", partition=P, values=_values(values), base_offset=offset, **idempotent))

    def lost(self, values: str, outcome: Outcome = Outcome.UNKNOWN, **idempotent: Any) -> Script:
        return self.add(Produce(client="p", partition=P, values=_values(values), **idempotent), outcome)

    def read(
        self, records: str, offset: int = 0, *, final: bool = False, start: int = 0, high: int | None = None
    ) -> Script:
        pairs = tuple((offset + place, value) for place, value in enumerate(_values(records)))
        end = offset + len(pairs) if high is None else high
        return self.add(
            Read(
                client="c", partition=P, offset=offset, final=final, records=pairs, high_watermark=end, log_start=start
            )
        )

    def acked(self) -> list[str]:
        return [each.text for each in acked_is_readable.check(self.history)]

    def offsets(self) -> list[str]:
        return [each.text for each in offsets_and_watermarks.check(self.history)]


def _values(letters: str) -> tuple[bytes, ...]:
    return tuple(letter.encode() for letter in letters)


def _sequence(number: int) -> dict[str, Any]:
    return {"producer_id": 7, "producer_epoch": 0, "base_sequence": number}


def test_a_good_history_passes() -> None:
    script = Script().ack("ab", 0).read("ab").lost("c").ack("de", 3).read("cde", 2).lost("x", Outcome.FAIL)
    script.read("abcde", final=True)
    assert script.acked() == []
    assert script.offsets() == []


def test_a_plain_retry_may_add_one_copy_per_unknown_attempt() -> None:
    assert Script().lost("a").ack("a", 1).read("aa", final=True).acked() == []
    assert "expected at most 1" in Script().ack("a", 0).read("aa", final=True).acked()[0]
    assert "expected at most 0" in Script().lost("a", Outcome.FAIL).read("a", final=True).acked()[0]


def test_an_acknowledged_record_that_is_missing_or_elsewhere_is_caught() -> None:
    assert "holds nothing" in Script().ack("ab", 0).read("a", final=True).acked()[0]
    assert "holds b'b'" in Script().ack("a", 0).lost("b").read("ba", final=True).acked()[0]
    assert "never read back" in Script().ack("a", 0).acked()[0]


def test_records_that_change_vanish_or_come_from_nowhere_are_caught() -> None:
    assert any("then" in text for text in Script().lost("a").lost("b").read("a").read("b", final=True).acked())
    assert any("gone" in text for text in Script().lost("ab").read("ab").read("a", final=True).acked())
    assert any("nobody" in text for text in Script().ack("a", 0).read("az", final=True).acked())


def test_half_a_batch_is_caught() -> None:
    assert any("in part" in text for text in Script().lost("ab").read("a", final=True).acked())


def test_idempotent_batches_are_there_once_in_order() -> None:
    first, second = _sequence(0), _sequence(1)
    good = Script().lost("a", **first).ack("a", 0, **first).ack("a", 0, **first).ack("b", 1, **second)
    assert good.read("ab", final=True).acked() == []
    twice = Script().lost("a", **first).ack("a", 1, **first).read("aa", final=True)
    assert "expected at most 1" in twice.acked()[0]
    two_offsets = Script().ack("a", 0, **first).ack("a", 1, **first).read("aa", final=True)
    assert any("was acknowledged at offsets" in text for text in two_offsets.acked())
    swapped = Script().ack("a", 1, **first).ack("b", 0, **second).read("ba", final=True)
    assert any("before sequence 0" in text for text in swapped.acked())


def test_records_trimmed_by_retention_are_excused() -> None:
    assert Script().ack("ab", 0).read("b", 1, final=True, start=1).acked() == []


def test_gaps_and_wrong_starts_in_a_read_are_caught() -> None:
    gap = Script().add(
        Read(client="c", partition=P, offset=0, records=((0, b"a"), (2, b"c")), high_watermark=3, log_start=0)
    )
    assert "where 1 comes next" in gap.offsets()[0]
    early = Script().add(Read(client="c", partition=P, offset=5, records=((4, b"a"),), high_watermark=9, log_start=0))
    assert "where 5 comes next" in early.offsets()[0]


def test_watermarks_out_of_order_or_going_back_are_caught() -> None:
    assert "past its high watermark" in Script().read("ab", high=1).offsets()[0]
    assert "above high watermark" in Script().read("", offset=3, start=5, high=3).offsets()[0]
    assert "saw high watermark 1 after 2" in Script().read("ab").read("a", high=1).offsets()[0]
    assert "saw high watermark 0 after 1" in Script().ack("a", 0).read("", high=0).offsets()[0]
    assert "saw log start 0 after 1" in Script().read("b", 1, start=1).read("b", 1, start=0).offsets()[0]
    back = Script().ack("ab", 0).add(Bounds(client="c", partition=P, high_watermark=1))
    assert "saw high watermark 1 after 2" in back.offsets()[0]


def test_concurrent_looks_are_not_compared() -> None:
    history = History()
    slow = Read(client="c", partition=P, offset=0, records=(), high_watermark=0, log_start=0)
    history.invoke(slow, 1.0)
    ack = Produce(client="p", partition=P, values=(b"a",), base_offset=0)
    history.invoke(ack, 1.1)
    history.end(ack, Outcome.OK, 1.2)
    history.end(slow, Outcome.OK, 1.3)
    assert offsets_and_watermarks.check(history) == []


def test_one_offset_for_two_batches_is_caught() -> None:
    assert "two batches" in Script().ack("ab", 0).ack("c", 1).offsets()[0]
    assert Script().ack("a", 0, **_sequence(0)).ack("a", 0, **_sequence(0)).offsets() == []
