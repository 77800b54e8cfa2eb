"""Idempotent producers: duplicates, gaps, epochs, wrap-around, and the STATE block as a pure fold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.partitions import producer_state
from broker.partitions.producer_state import CorruptState, ProducerState, SentBatch, fold
from protocol.errors import ErrorCode
from protocol.record_batch import BatchHeader, assign, parse_batch_header
from protocol.record_codec import Record, encode_batch


def batch(
    sequence: int, count: int = 1, *, producer_id: int = 7, epoch: int = 0, timestamp: int = 1_000, base: int = 0
) -> memoryview:
    records = [Record(key=None, value=b"v", timestamp_ms=timestamp) for _ in range(count)]
    whole = memoryview(encode_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence))
    assign(whole, base, 0)
    return whole


def header(sequence: int, count: int = 1, **more: int) -> BatchHeader:
    return parse_batch_header(batch(sequence, count, **more))


def check(state: ProducerState, batch: BatchHeader) -> SentBatch | ErrorCode | None:
    return state.check(batch.producer_id, batch.producer_epoch, batch.base_sequence, batch.last_offset_delta)


def record(state: ProducerState, batch: BatchHeader, base_offset: int) -> None:
    sequences = batch.base_sequence, batch.last_offset_delta
    state.record(batch.producer_id, batch.producer_epoch, *sequences, batch.max_timestamp, base_offset)


def test_a_producer_that_is_not_known_may_start_anywhere() -> None:
    state = ProducerState()
    assert check(state, header(17)) is None


def test_the_next_sequence_is_accepted_and_a_gap_is_not() -> None:
    state = ProducerState()
    record(state, header(0, 3), 100)
    assert check(state, header(3)) is None
    assert check(state, header(4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(state, header(2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_each_of_the_last_five_batches_is_a_duplicate_of_its_original_and_the_sixth_is_not() -> None:
    state = ProducerState()
    for i in range(6):
        record(state, header(i * 2, 2), 100 + i * 2)
    for i in range(1, 6):
        sent = check(state, header(i * 2, 2))
        assert isinstance(sent, SentBatch)
        assert sent.base_offset == 100 + i * 2
    assert check(state, header(0, 2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_batch_that_only_overlaps_an_old_one_is_no_duplicate() -> None:
    state = ProducerState()
    record(state, header(0, 4), 0)
    assert check(state, header(0, 2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_epochs() -> None:
    state = ProducerState()
    record(state, header(0, 1, epoch=3), 0)
    assert check(state, header(1, 1, epoch=2)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert check(state, header(1, 1, epoch=4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(state, header(0, 1, epoch=4)) is None


def test_sequences_wrap_to_zero() -> None:
    state = ProducerState()
    record(state, header(2**31 - 2, 2), 0)
    assert check(state, header(0)) is None
    record(state, header(0), 2)
    assert isinstance(check(state, header(2**31 - 2, 2)), SentBatch)


def test_beyond_the_most_producers_the_one_that_wrote_longest_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_state, "_MAX_PRODUCERS", 2)
    state = ProducerState()
    for producer_id, epoch in ((1, 0), (2, 0), (1, 0), (3, 0)):
        record(state, header(0, producer_id=producer_id, epoch=epoch), 0)
    assert list(state.producers) == [1, 3]
    state = ProducerState.decode(state.encode())
    record(state, header(0, producer_id=3, epoch=1), 0)  # the last one, with a new epoch
    record(state, header(0, producer_id=1), 0)
    assert list(state.producers) == [3, 1]
    record(state, header(0, producer_id=4), 0)
    assert list(state.producers) == [1, 4]


def test_expiry_spares_the_latest_thousand() -> None:
    state = ProducerState()
    for producer_id in range(1_200):
        record(state, header(0, producer_id=producer_id, timestamp=0), producer_id)
    state.expire(10**12)
    assert list(state.producers) == list(range(200, 1_200))


@pytest.mark.parametrize("damage", [b"", b"\x02\0\0\0\0", b"\x01\0\0\0\x01", b"\x01\0\0\0\0x"])
def test_a_damaged_state_is_an_error_not_an_empty_one(damage: bytes) -> None:
    with pytest.raises(CorruptState):
        ProducerState.decode(damage)


runs = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 10_000)), max_size=30)


@given(runs, st.integers(0, 30))
def test_folding_in_two_runs_is_folding_in_one(script: list[tuple[int, int, int]], cut: int) -> None:
    """STATE at the end of a run depends on the batches alone, not on where uploads were cut (but for what expires)."""
    sequences: dict[int, int] = {}
    batches = []
    offset = 0
    for producer_id, count, timestamp in script:
        sequence = sequences.get(producer_id, 0)
        batches.append(batch(sequence, count, producer_id=producer_id, timestamp=timestamp, base=offset))
        sequences[producer_id] = sequence + count
        offset += count
    whole = fold(None, batches).state
    assert fold(fold(None, batches[:cut]).state, batches[cut:]).state == whole
    assert ProducerState.decode(whole).encode() == (whole or ProducerState().encode())


def as_control(whole: memoryview) -> memoryview:
    whole[21:23] = (int.from_bytes(whole[21:23], "big") | 0x20).to_bytes(2, "big")
    return whole


steps = st.tuples(
    st.integers(-1, 5), st.integers(0, 2), st.sampled_from((0, 5, 2**31 - 3)), st.integers(1, 4), st.booleans()
)


@pytest.mark.parametrize("most", [3, 100_000])
@given(script=st.lists(steps, max_size=40), cut=st.integers(0, 40))
def test_replay_is_recording_batch_by_batch(most: int, script: list[tuple[int, int, int, int, bool]], cut: int) -> None:
    """Also when producers are forgotten on the way, epochs change, sequences wrap and markers lie between."""
    batches = []
    for number, (producer_id, epoch, sequence, count, control) in enumerate(script):
        known = (producer_id, epoch) if producer_id >= 0 else (-1, -1)
        whole = batch(
            sequence if producer_id >= 0 else -1, count, producer_id=known[0], epoch=known[1], base=number * 10
        )
        batches.append(as_control(whole) if control else whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(producer_state, "_MAX_PRODUCERS", most)
        expected = ProducerState()
        for whole in batches:
            found = parse_batch_header(whole)
            if found.producer_id >= 0 and not found.is_control:
                record(expected, found, found.base_offset)
        first = ProducerState()
        first.replay(batches[:cut])
        again = ProducerState.decode(first.encode())
        again.replay(batches[cut:])
    for state in (again, ProducerState.decode(expected.encode())):
        assert state.encode() == expected.encode()
        found_next = {each: producer.next_sequence for each, producer in state.producers.items()}
        assert found_next == {each: producer.next_sequence for each, producer in expected.producers.items()}


def test_what_was_read_back_goes_on_where_it_stopped() -> None:
    state = ProducerState()
    record(state, header(2**31 - 3, 2), 0)
    record(state, header(2**31 - 1, 1), 2)
    again = ProducerState.decode(state.encode())
    assert check(again, header(0)) is None
    assert check(again, header(1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(again, header(2**31 - 1, 1)) == SentBatch(2**31 - 1, 2**31 - 1, 2, 0, 1_000)


def test_batches_without_a_producer_leave_no_state() -> None:
    assert fold(None, [batch(-1, producer_id=-1)]).state is None
