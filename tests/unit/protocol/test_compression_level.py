"""Compression levels: gzip and zstd take Kafka's range, and a higher level gives other bytes of the same content."""

from __future__ import annotations

import pytest

from protocol.compression import compress, decompress
from protocol.record_codec import Record, encode_batch, iter_records

DATA = b"".join(b"span %d took %d us\n" % (number % 97, number * number % 7919) for number in range(20_000))


@pytest.mark.parametrize(("codec", "low", "high", "default"), [(1, 1, 9, -1), (4, -7, 22, 3)], ids=["gzip", "zstd"])
def test_levels(codec: int, low: int, high: int, default: int) -> None:
    outcomes = {level: compress(codec, DATA, level) for level in (low, high, default)}
    for data in outcomes.values():
        assert decompress(codec, memoryview(data)) == DATA
    assert len(outcomes[high]) < len(outcomes[low])
    assert compress(codec, DATA) == outcomes[default]


def test_a_batch_takes_the_level() -> None:
    records = [Record(None, DATA[:30_000], timestamp_ms=5)]
    fast, thorough = (encode_batch(records, 4, level=level) for level in (1, 19))
    assert len(thorough) < len(fast)
    assert [each.value for each in iter_records(memoryview(thorough))] == [DATA[:30_000]]
