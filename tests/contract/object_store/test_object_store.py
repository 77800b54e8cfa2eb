"""What every object store does, whatever is behind it."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from s3stream.errors import AlreadyExists, Invalid, NotFound
from s3stream.ports import ObjectStore
from s3stream.stores.probe import probe_store

ODD_KEYS = [
    "a b/c",
    "p%20q",
    "plus+sign",
    "hash#mark?query=1&x=y",
    "umläut/日本語",
    "quote'\"(x)!*~",
    "dots/.x/..y",
    "-",
]
BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "a/../b", "a/./b", "nul\0", "new\nline", "x" * 1025, "\ud800"]


async def keys_of(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[str]:
    return [info.key async for page in store.list(prefix, start_after) for info in page]


@pytest.mark.skipif(not os.environ.get("WEIR_TEST_S3_ENDPOINT"), reason="WEIR_TEST_S3_ENDPOINT names no S3 server")
def test_a_real_server_takes_part() -> None:
    """Shows in the report whether the contract ran on more than moto."""


async def test_put_and_get_whole(store: ObjectStore) -> None:
    await store.put("a/b/c", [b"one ", bytearray(b"two "), memoryview(b"three")])
    assert bytes(await store.get("a/b/c")) == b"one two three"


async def test_many_buffers_and_parts(store: ObjectStore) -> None:
    rng = random.Random(1)
    body = [memoryview(rng.randbytes(10_000)) for _ in range(1300)]
    await store.put("many", body)
    content = await store.get("many")
    assert content == b"".join(body)
    assert await store.get("many", 5_999_990, 6_000_010) == content[5_999_990:6_000_010]


async def test_large_body_put_if_absent(store: ObjectStore) -> None:
    body = bytes(7 << 20)
    await store.put("large", [body], if_absent=True)
    with pytest.raises(AlreadyExists):
        await store.put("large", [b"x" * len(body)], if_absent=True)
    assert await store.get("large") == body


async def test_buffers_may_change_after_put(store: ObjectStore) -> None:
    buffer = bytearray(b"before")
    await store.put("key", [memoryview(buffer)])
    buffer[:] = b"after!"
    assert bytes(await store.get("key")) == b"before"


async def test_empty_object(store: ObjectStore) -> None:
    await store.put("empty", [])
    await store.put("empty-too", [b"", b""], if_absent=True)
    assert len(await store.get("empty")) == 0
    assert len(await store.get("empty-too", 0, 0)) == 0
    with pytest.raises(Invalid):
        await store.get("empty", 0, 1)


@pytest.mark.parametrize(("start", "end", "expected"), [
    (0, 10, b"0123456789"), (3, 7, b"3456"), (9, 10, b"9"), (3, None, b"3456789"),
    (10, None, b""), (10, 10, b""), (4, 4, b""), (0, 0, b""),
])  # fmt: skip
async def test_ranges(store: ObjectStore, start: int, end: int | None, expected: bytes) -> None:
    await store.put("ten", [b"0123456789"])
    assert bytes(await store.get("ten", start, end)) == expected


@pytest.mark.parametrize(
    ("start", "end"), [(0, 11), (5, 11), (10, 11), (11, None), (11, 11), (20, 30), (5, 4), (-1, 3)]
)
async def test_ranges_past_the_end_are_invalid(store: ObjectStore, start: int, end: int | None) -> None:
    await store.put("ten", [b"0123456789"])
    with pytest.raises(Invalid) as raised:
        await store.get("ten", start, end)
    assert not isinstance(raised.value, NotFound)


@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 5), (5, None), (3, 3)])
async def test_missing_object_is_not_found(store: ObjectStore, start: int, end: int | None) -> None:
    await store.put("near/miss", [b"x"])
    for key in ("miss", "near", "near/mis", "near/miss/x"):
        with pytest.raises(NotFound):
            await store.get(key, start, end)


async def test_overwrite(store: ObjectStore) -> None:
    await store.put("key", [b"a long first"])
    await store.put("key", [b"second"])
    assert bytes(await store.get("key")) == b"second"
    assert await keys_of(store) == ["key"]


async def test_put_if_absent(store: ObjectStore) -> None:
    await store.put("key", [b"first"], if_absent=True)
    with pytest.raises(AlreadyExists):
        await store.put("key", [b"second"], if_absent=True)
    assert bytes(await store.get("key")) == b"first"
    await store.delete(["key"])
    await store.put("key", [b"third"], if_absent=True)
    assert bytes(await store.get("key")) == b"third"


async def test_racing_put_if_absent_has_one_winner(store: ObjectStore) -> None:
    for round_number in range(3):
        key = f"race/{round_number}"

        async def write(number: int, key: str = key) -> bool:
            try:
                await store.put(key, [b"writer ", b"%d" % number], if_absent=True)
            except AlreadyExists:
                return False
            return True

        outcomes = await asyncio.gather(*(write(number) for number in range(12)))
        assert outcomes.count(True) == 1
        assert bytes(await store.get(key)) == b"writer %d" % outcomes.index(True)


async def test_odd_keys(store: ObjectStore) -> None:
    for number, key in enumerate(ODD_KEYS):
        await store.put(key, [b"%d" % number], if_absent=True)
    assert await keys_of(store) == sorted(ODD_KEYS)
    for number, key in enumerate(ODD_KEYS):
        assert bytes(await store.get(key)) == b"%d" % number
        assert await keys_of(store, key) == [key]
    await store.delete(ODD_KEYS)
    assert await keys_of(store) == []


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_bad_keys_are_invalid(store: ObjectStore, key: str) -> None:
    with pytest.raises(Invalid):
        await store.put(key, [b"x"])
    with pytest.raises(Invalid):
        await store.get(key)
    with pytest.raises(Invalid):
        await store.delete([key])


async def test_listing_is_paged_and_in_key_order(store: ObjectStore) -> None:
    keys = [f"p/{number:02}/x" for number in range(21)] + ["p.q", "p/05.x", "p/05/a", "p0", "q/1"]
    shuffled = list(keys)
    random.Random(7).shuffle(shuffled)
    await asyncio.gather(*(store.put(key, [b"x" * len(key)]) for key in shuffled))
    pages = [list(page) async for page in store.list("")]
    infos = [info for page in pages for info in page]
    assert [info.key for info in infos] == sorted(keys)
    assert all(info.size_bytes == len(info.key) for info in infos)
    assert all(len(page) <= 10 for page in pages)
    for prefix in ("p", "p/", "p/0", "p/05", "p/05/", "p/05/x", "q", "z", "p/05/x/"):
        assert await keys_of(store, prefix) == sorted(key for key in keys if key.startswith(prefix)), prefix
    for after in ("p", "p.q", "p/05", "p/05/", "p/05/a", "p/05/x", "p/20/x", "q/1", "zzz", "a"):
        assert await keys_of(store, "p", after) == sorted(key for key in keys if key[0] == "p" and key > after), after


async def test_listing_shows_size_and_time(store: ObjectStore) -> None:
    await store.put("key", [b"12345"])
    [[info]] = [page async for page in store.list("k")]
    assert (info.key, info.size_bytes) == ("key", 5)
    assert info.modified_ms > 1_500_000_000_000


async def test_delete(store: ObjectStore) -> None:
    keys = [f"d/{number}/{number}" for number in range(25)]
    await asyncio.gather(*(store.put(key, [b"x"]) for key in [*keys, "d/keep"]))
    await store.delete([*keys[:20], "d/never-there", "other/never-there"])
    await store.delete(keys[10:])
    await store.delete([])
    assert await keys_of(store) == ["d/keep"]
    with pytest.raises(NotFound):
        await store.get(keys[0])


async def test_probe_accepts_it_and_leaves_nothing(store: ObjectStore) -> None:
    report = await probe_store(store, "0123456789abcdef")
    assert (report.problems, report.put_if_absent_problem) == ((), "")
    report.require(put_if_absent=True)
    assert await keys_of(store) == []


async def test_closing_twice_is_harmless(store: ObjectStore) -> None:
    await store.put("key", [b"x"])
    await store.close()
    await store.close()
