"""Writes past the page cache leave what the same writes through it would."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3stream.direct_write import BLOCK_BYTES, DirectWriter, DirectWriters, bypass_page_cache, can_bypass

STAGE = 4 * BLOCK_BYTES
SIZES = st.lists(
    st.one_of(st.integers(0, 40), st.integers(0, 3 * STAGE), st.sampled_from([BLOCK_BYTES, STAGE])), max_size=12
)


def open_direct(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    bypass_page_cache(descriptor)
    return descriptor


@pytest.fixture(autouse=True)
def _only_where_it_works(tmp_path: Path) -> None:
    if not can_bypass(tmp_path):
        pytest.skip("the file system of the temporary folder does not take direct writes")
    assert list(tmp_path.iterdir()) == []  # nothing is left of the question


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(SIZES, min_size=1, max_size=4), seed=st.integers(0, 255))
def test_writes_that_follow_each_other(tmp_path: Path, writes: list[list[int]], seed: int) -> None:
    path = tmp_path / "file"
    path.unlink(missing_ok=True)
    descriptor = open_direct(path)
    expected = bytearray()
    head = b""
    with DirectWriter(STAGE) as writer:
        for sizes in writes:
            buffers = [bytes([(seed + index + size) % 255 + 1]) * size for index, size in enumerate(sizes)]
            at = len(expected)
            assert writer.read_head(descriptor, at) == head
            head = writer.write(descriptor, at, buffers, head)
            expected += b"".join(buffers)
            assert head == expected[len(expected) // BLOCK_BYTES * BLOCK_BYTES :]
    os.close(descriptor)
    content = path.read_bytes()
    assert content[: len(expected)] == expected
    assert len(content) % BLOCK_BYTES == 0
    assert not content[len(expected) :].strip(b"\0")


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    descriptor = open_direct(tmp_path / "file")
    pieces = [bytes([number % 255 + 1]) * (number % 9) for number in range(7000)]
    with DirectWriter(STAGE) as writer:
        writer.write(descriptor, 0, pieces)
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes().rstrip(b"\0") == b"".join(pieces)


def test_a_head_that_the_file_does_not_hold(tmp_path: Path) -> None:
    descriptor = open_direct(tmp_path / "file")
    with DirectWriter(STAGE) as writer, pytest.raises(OSError, match="ends before offset 10"):
        writer.read_head(descriptor, 10)
    os.close(descriptor)


def test_writers_are_used_again(tmp_path: Path) -> None:
    writers = DirectWriters()
    with writers.borrow() as first, writers.borrow() as second:
        assert first is not second
    with writers.borrow() as again:
        assert again in (first, second)
    writers.close()


def test_a_file_system_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETFL:
            raise OSError(errno.EINVAL, "no direct I/O here")
        return real(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert can_bypass(tmp_path) is False
    assert list(tmp_path.iterdir()) == []
