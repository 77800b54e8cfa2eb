"""Histories on disk: what is written is read again, also when the run broke off; what is no history is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from benchmarks.verify import stored
from benchmarks.verify.errors import VerifyError
from benchmarks.verify.history import Bounds, OffsetCommit, OffsetRead, Operation, Outcome, Partition, Produce, Read
from benchmarks.verify.recorder import Recorder

P = Partition("t-0", 1)


def recorded() -> tuple[Recorder, bytes]:
    """One operation of each kind, one of each outcome, and all that happens beside them."""
    file = io.BytesIO()
    recorder = Recorder({"bootstrap": "h:1", "members": 2}, file)
    ids = {"producer_id": 3, "producer_epoch": 1, "base_sequence": 7}
    operations: list[tuple[Operation, Outcome | None]] = [
        (Produce(client="a", partition=P, values=(b'x\xff\n"',), **ids, base_offset=4), Outcome.OK),
        (Produce(client="a", partition=P, values=(b"y",)), Outcome.FAIL),
        (Produce(client="a", partition=P, values=(b"z",)), Outcome.UNKNOWN),
        (Produce(client="a", partition=P, values=(b"never ended",)), None),
        (Read(client="b", partition=P, offset=4, final=True, records=((4, b'x\xff\n"'),), log_start=0), Outcome.OK),
        (Bounds(client="c", partition=P, high_watermark=5, log_start=0), Outcome.OK),
        (OffsetCommit(client="d", partition=P, group="g", member="m", offset=5), Outcome.OK),
        (OffsetRead(client="c", partition=P, group="g", offset=5), Outcome.OK),
    ]
    for operation, outcome in operations:
        recorder.invoke(operation)
        if outcome is not None:
            recorder.end(operation, outcome, "" if outcome is Outcome.OK else "WHY")
    recorder.client_error("a", "_TRANSPORT")
    recorder.client_error("a", "_TRANSPORT")
    recorder.chaos(stored.Chaos(1.0, 2.0, None, "out"))
    recorder.phase(stored.LOAD_ENDED)
    return recorder, file.getvalue()


def test_what_is_written_is_read_again() -> None:
    recorder, content = recorded()
    run = stored.parse(content.splitlines(), "x")
    assert run.plan == recorder.run.plan
    assert run.chaos == recorder.run.chaos
    assert run.client_errors == {("a", "_TRANSPORT"): 2}
    assert list(run.phases) == [stored.LOAD_ENDED]
    assert len(run.history.operations) == 8
    for found, written in zip(run.history.operations, recorder.run.history.operations, strict=True):
        assert found == written


def test_a_run_that_broke_off_at_any_byte_can_be_read(tmp_path: Path) -> None:
    content = recorded()[1]
    path = tmp_path / "history"
    first = content.index(b"\n") + 1
    for length in range(first, len(content), 37):
        path.write_bytes(content[:length])
        run = stored.load(path)
        whole, _, _ = content[:length].rpartition(b"\n")
        assert len(run.history.operations) == whole.count(b'"e":"invoke"')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no history"),
        (b"not a history\n", "line 1"),
        (b'{"e":"start","schema":2,"plan":{}}\n', "schema 2"),
        (b'{"e":"start","schema":1,"plan":{}}\n{"e":"what"}\n', "line 2"),
        (b'{"e":"end","n":0,"t":1,"outcome":"ok"}\n', "line 1"),
        (b'{"e":"invoke","n":5,"t":1,"op":"bounds","client":"a","topic":"t","partition":0}\n', "operation 5"),
        (b"[]\n", "line 1"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "history"
    path.write_bytes(content)
    with pytest.raises(VerifyError, match=words):
        stored.load(path)
    with pytest.raises(VerifyError, match="No such file"):
        stored.load(tmp_path / "none")
