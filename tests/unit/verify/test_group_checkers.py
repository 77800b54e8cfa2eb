"""Checkers of groups and epochs on hand-made histories: good ones pass, each kind of wrong one is caught."""

from __future__ import annotations

from benchmarks.verify.checkers import fenced_epochs, group_offsets, group_owners
from benchmarks.verify.history import Assigned, History, OffsetCommit, OffsetRead, Outcome, Partition, Produce
from benchmarks.verify.inside import EpochUse
from tests.unit.verify.scripts import P, add


def commit(offset: int, generation: int = 1, member: str = "a") -> OffsetCommit:
    return OffsetCommit(client=member, partition=P, group="g", generation=generation, member=member, offset=offset)


def found(offset: int) -> OffsetRead:
    return OffsetRead(client="r", partition=P, group="g", offset=offset)


def assigned(generation: int, member: str, partition: Partition = P) -> Assigned:
    return Assigned(client=member, partition=partition, group="g", generation=generation, member=member)


# -- offsets


def test_offsets_that_rise_are_good() -> None:
    history = History()
    add(history, found(-1), 0, 1)
    add(history, commit(10), 2, 3)
    add(history, commit(20), 4, 5, Outcome.UNKNOWN)
    add(history, found(10), 6, 7)  # the unknown one was not applied
    add(history, commit(15), 8, 9)
    add(history, found(15), 8.5, 9.5)
    add(history, found(10), 8.6, 9.5)  # at the same time
    assert group_offsets.check(history) == []


def test_a_lost_commit_is_caught() -> None:
    history = History()
    add(history, commit(10), 0, 1)
    add(history, found(-1), 2, 3)
    (anomaly,) = group_offsets.check(history)
    assert "found -1" in anomaly.text


def test_a_commit_below_what_was_seen_is_caught() -> None:
    history = History()
    add(history, found(10), 0, 1)
    add(history, commit(7), 2, 3)
    (anomaly,) = group_offsets.check(history)
    assert "committed 7" in anomaly.text


def test_groups_and_partitions_are_kept_apart() -> None:
    history = History()
    add(history, commit(10), 0, 1)
    add(history, OffsetRead(client="r", partition=Partition("t", 1), group="g", offset=1), 2, 3)
    add(history, OffsetRead(client="r", partition=P, group="h", offset=1), 2, 3)
    assert group_offsets.check(history) == []


# -- owners


def test_one_owner_per_generation_is_good() -> None:
    history = History()
    add(history, assigned(1, "a"), 0, 1)
    add(history, assigned(1, "b", Partition("t", 1)), 0, 1)
    add(history, assigned(1, "a"), 2, 3)  # told again
    add(history, assigned(2, "b"), 4, 5)
    add(history, commit(5, 2, "b"), 6, 7)
    assert group_owners.check(history) == []


def test_two_owners_in_one_generation_are_caught() -> None:
    history = History()
    add(history, assigned(1, "a"), 0, 1)
    add(history, assigned(1, "b"), 2, 3)
    assert len(group_owners.check(history)) == 1


def test_a_commit_of_what_another_one_owns_is_caught() -> None:
    history = History()
    add(history, assigned(1, "a"), 0, 1)
    add(history, commit(5, 1, "b"), 2, 3)
    add(history, commit(6, 1, "b"), 4, 5, Outcome.FAIL)
    (anomaly,) = group_owners.check(history)
    assert "b committed what a owns" in anomaly.text


def static(member: str, offset: int | None = None) -> Assigned | OffsetCommit:
    if offset is None:
        return Assigned(client="s", partition=P, group="g", generation=1, member=member, instance="i")
    return OffsetCommit(client="s", partition=P, group="g", generation=1, member=member, instance="i", offset=offset)


def test_a_static_member_takes_its_own_place_over() -> None:
    history = History()
    add(history, static("a"), 0, 1)
    add(history, static("a", 5), 2, 6)  # on its way while the new one joins
    add(history, static("b"), 3, 4)
    add(history, static("b", 6), 5, 6)
    assert group_owners.check(history) == []


def test_a_static_member_whose_place_is_taken_and_that_commits_is_caught() -> None:
    history = History()
    add(history, static("a"), 0, 1)
    add(history, static("b"), 2, 3)
    add(history, static("a", 5), 4, 5)
    (anomaly,) = group_owners.check(history)
    assert "after b had taken its place" in anomaly.text


# -- epochs


def ack(epoch: int) -> Produce:
    return Produce(client="p", partition=P, values=(b"x",), producer_id=7, producer_epoch=epoch, base_offset=epoch)


def test_epochs_that_follow_each_other_are_good() -> None:
    history = History()
    add(history, assigned(1, "a"), 0, 1)
    add(history, commit(5, 1), 2, 5)
    add(history, assigned(2, "b"), 3, 4)  # while the commit is on its way
    add(history, commit(6, 1), 6, 7, Outcome.FAIL)
    add(history, ack(0), 0, 1)
    add(history, ack(1), 2, 3)
    uses = [EpochUse("broker 1", 1, 0, 1), EpochUse("broker 1", 2, 2, 3), EpochUse("broker 2", 1, 4, 5)]
    assert fenced_epochs.check(history, uses) == []


def test_a_commit_of_an_old_generation_is_caught() -> None:
    history = History()
    add(history, assigned(2, "b"), 0, 1)
    add(history, commit(5, 1), 2, 3)
    (anomaly,) = fenced_epochs.check(history)
    assert anomaly.partition.topic == "group g"


def test_an_ack_of_an_old_producer_epoch_is_caught() -> None:
    history = History()
    add(history, ack(1), 0, 1)
    add(history, ack(0), 2, 3)
    assert len(fenced_epochs.check(history)) == 1


def test_a_grant_to_an_old_broker_epoch_is_caught() -> None:
    uses = [EpochUse("broker 1", 2, 0, 1), EpochUse("broker 1", 1, 0.5, 3), EpochUse("broker 1", 1, 2, 3)]
    assert len(fenced_epochs.check(History(), uses)) == 1
