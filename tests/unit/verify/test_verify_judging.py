"""From a history to figures, verdict, report and exit code; no cluster."""

from __future__ import annotations

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer
from confluent_kafka import KafkaError
from typer.testing import CliRunner

from benchmarks.verify import stored
from benchmarks.verify.cli import app
from benchmarks.verify.evidence import evidence, told
from benchmarks.verify.figures import figures
from benchmarks.verify.history import OffsetCommit, Operation, Outcome, Partition, Produce, Read
from benchmarks.verify.plan import Kind, Plan
from benchmarks.verify.producing import outcome_of
from benchmarks.verify.verdict import Result, judge

P = Partition("weir-verify-1-0", 0)
PLAN = {
    "bootstrap": "h:1",
    "producers": 2,
    "rate_per_s": 10.0,
    "duration_s": 20.0,
    "topics": 1,
    "partitions": 1,
    "seed": 0,
    "members": 2,
}


class Story:
    """A run by hand: ten acknowledged records in the first ten seconds, followed, committed and read back."""

    def __init__(self) -> None:
        self.run = stored.Run(dict(PLAN))
        self.log = [b"plain 0.0 0/0 %d #00" % number for number in range(10)]
        for number, value in enumerate(self.log):
            self.add(Produce(client="plain-0", partition=P, values=(value,), base_offset=number), number, number + 0.5)
        self.add(self.read(range(10)), 10, 11)
        self.add(OffsetCommit(client="member-0", partition=P, group="g", member="m", offset=10), 11, 12)

    def add(self, operation: Operation, began_s: float, ended_s: float, outcome: Outcome = Outcome.OK) -> None:
        self.run.history.invoke(operation, began_s)
        self.run.history.end(operation, outcome, ended_s, "" if outcome is Outcome.OK else "_TRANSPORT")

    def read(self, offsets: range, *, final: bool = False) -> Read:
        records = tuple((offset, self.log[offset]) for offset in offsets)
        return Read(
            client="read-back" if final else "follower",
            partition=P,
            offset=offsets.start,
            final=final,
            records=records,
            log_start=0 if final else -1,
        )

    def end(self, count: int) -> stored.Run:
        """Only the first `count` records are there."""
        self.add(self.read(range(count), final=True), 30, 31)
        self.run.phases |= {stored.LOAD_ENDED: 20.0, stored.READ_BACK: 31.0}
        return self.run

    def write(self, path: Path) -> Path:
        with path.open("wb") as file:
            file.write(stored.start_line(self.run.plan))
            for each in self.run.history.operations:
                file.write(stored.invoke_line(each))
                if each.ended_s is not None:
                    file.write(stored.end_line(each))
            for chaos in self.run.chaos:
                file.write(stored.chaos_line(chaos))
            for phase, at_s in self.run.phases.items():
                file.write(stored.phase_line(phase, at_s))
        return path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_a_sound_history_exits_0(tmp_path: Path) -> None:
    story = Story()
    story.end(10)
    code, text = run("--judge", str(story.write(tmp_path / "h")), "--min-acked", "10")
    assert code == 0, text
    assert "Nothing found: 10 acknowledged records" in text


def test_a_lost_record_exits_1_and_shows_the_events(tmp_path: Path) -> None:
    story = Story()
    story.end(9)
    code, text = run("--judge", str(story.write(tmp_path / "h")), "--min-acked", "10")
    assert code == 1
    assert "acknowledged b'plain 0.0 0/0 9' at offset 9, which holds nothing" in text
    assert "plain-0 sent 'plain 0.0 0/0 9': offset 9" in text
    assert "follower read from offset 0: 8: 'plain 0.0 0/0 8', 9: 'plain 0.0 0/0 9'" in text


def test_violations_count_also_where_little_was_acknowledged() -> None:
    verdict = judge(Story().end(9), 100)
    assert verdict.result is Result.VIOLATIONS
    assert verdict.reasons


def test_too_little_is_no_verdict(tmp_path: Path) -> None:
    story = Story()
    story.end(10)
    code, text = run("--judge", str(story.write(tmp_path / "h")))
    assert code == 3
    assert "only 10 records were acknowledged" in text


@pytest.mark.parametrize("missing", ["read back", "reads", "commits", "chaos"])
def test_what_makes_a_run_vacuous(missing: str) -> None:
    made = Story().end(10)
    assert judge(made, 10).result is Result.NOTHING_FOUND
    if missing == "read back":
        del made.phases[stored.READ_BACK]
    elif missing == "chaos":
        made.plan["chaos"] = "false"
        made.chaos.append(stored.Chaos(1, 2, 1))
    else:
        gone = OffsetCommit if missing == "commits" else Read
        kept = [each for each in made.history.operations if not isinstance(each, gone) or getattr(each, "final", False)]
        made.history = type(made.history)()
        for each in kept:
            made.history.invoke(each, each.invoked_s)
    assert judge(made, 10).result is Result.VACUOUS


def test_a_run_that_broke_off_is_not_blamed_for_what_was_not_read() -> None:
    story = Story()
    verdict = judge(story.run, 1)
    assert verdict.violations == []
    assert verdict.result is Result.VACUOUS


@pytest.mark.parametrize("there", [True, False])
def test_an_acknowledgement_without_an_offset_is_a_promise_too(there: bool) -> None:
    story = Story()
    story.log.append(b"idempotent 1.0 0/0 0 #00")
    ids = {"producer_id": 1, "producer_epoch": 0, "base_sequence": 0}
    story.add(Produce(client="idempotent-1", partition=P, values=(story.log[10],), **ids), 12, 13)
    verdict = judge(story.end(11 if there else 10), 1)
    assert [each.text for each in verdict.violations] == (
        [] if there else ["acknowledged b'idempotent 1.0 0/0 0 #00' without an offset; it is gone"]
    )


def test_a_plain_acknowledgement_without_an_offset_is_the_brokers_fault() -> None:
    story = Story()
    story.log.append(b"plain 1.0 0/0 0 #00")
    story.add(Produce(client="plain-1", partition=P, values=(story.log[10],)), 12, 13)
    assert judge(story.end(11), 1).result is Result.VIOLATIONS


def test_outages_and_fates() -> None:
    story = Story()
    found_later = Produce(client="plain-0", partition=P, values=(story.log[3],))
    story.add(found_later, 12, 13, Outcome.UNKNOWN)
    story.add(Produce(client="plain-0", partition=P, values=(b"gone",)), 12, 13, Outcome.FAIL)
    found = figures(story.end(10))
    assert [(each.began_s, each.ended_s) for each in found.outages][-1] == (9.5, 20.0)
    assert found.longest_partition_s == 10.5
    total = found.total
    assert (total.sent, total.acked, total.refused, total.unknown, total.unknown_found) == (12, 10, 1, 1, 1)
    assert found.errors == {("unknown", "_TRANSPORT"): 1, ("refused", "_TRANSPORT"): 1}
    assert found.ack_ms == (500.0, 500.0, 500.0)


def test_evidence_is_bounded_and_keeps_the_final_read() -> None:
    story = Story()
    for at_s in range(40, 60):
        story.add(story.read(range(10)), at_s, at_s + 0.5)
    made = story.end(9)
    [lost] = [each for each in judge(made, 1).violations if "holds nothing" in each.text]
    shown = evidence(made.history, lost, most=3)
    assert [type(each) for each in shown] == [Produce, Read, Read]
    assert "9: 'plain 0.0 0/0 9'" in told(shown[1])


@pytest.mark.parametrize(
    ("code", "kind", "outcome"),
    [
        (KafkaError.NOT_LEADER_FOR_PARTITION, Kind.PLAIN, Outcome.FAIL),
        (KafkaError.NOT_LEADER_FOR_PARTITION, Kind.IDEMPOTENT, Outcome.UNKNOWN),
        (KafkaError._PURGE_QUEUE, Kind.ONE, Outcome.FAIL),
        (KafkaError._PURGE_QUEUE, Kind.IDEMPOTENT, Outcome.UNKNOWN),
        (KafkaError._MSG_TIMED_OUT, Kind.PLAIN, Outcome.UNKNOWN),
        (KafkaError._TRANSPORT, Kind.PLAIN, Outcome.UNKNOWN),
        (KafkaError.REQUEST_TIMED_OUT, Kind.PLAIN, Outcome.UNKNOWN),
        (KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, Kind.PLAIN, Outcome.UNKNOWN),
    ],
)
def test_what_a_failed_delivery_says(code: int, kind: Kind, outcome: Outcome) -> None:
    assert outcome_of(code, kind) is outcome


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--bootstrap", "h:1", "--judge", "x"),
        ("--bootstrap", "h:1", "--duration", "0"),
        ("--bootstrap", "h:1", "--kinds", "fast"),
        ("--bootstrap", "h:1", "--rate", "1000000", "--duration", "3600"),
        ("--bootstrap", "h:1", "--client", "what"),
        ("--bootstrap", "h:1", "surplus"),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    code, text = run(*arguments)
    assert code == 2, text


def test_an_unreadable_history_exits_3(tmp_path: Path) -> None:
    code, text = run("--judge", str(tmp_path / "none"))
    assert code == 3
    assert "No such file" in text


def test_the_address_for_other_commands_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_BOOTSTRAP", "h:1")
    story = Story()
    story.end(10)
    assert run("--judge", str(story.write(tmp_path / "h")), "--min-acked", "1")[0] == 0


def test_without_the_client_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("benchmarks.verify.run")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [each for each in sys.modules if each.split(".")[0] == "confluent_kafka"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    code, text = run("--bootstrap", "h:1")
    assert code == 3
    assert "pip install 'weir[bench]'" in text


def test_the_plan_names_the_option() -> None:
    with pytest.raises(ValueError, match="--partitions 0"):
        Plan(bootstrap="h:1", partitions=0)


def test_the_entry_point_is_the_command() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["weir.commands"]["verify"].partition(":")
    found = getattr(import_module(module), name)
    assert isinstance(found, typer.Typer)
    assert any(each.startswith("confluent-kafka") for each in project["optional-dependencies"]["bench"])
