"""The question put to a store at start: can it carry what the engine needs? Some servers accept `If-None-Match` and
ignore it, which shows only when it is tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from s3stream.errors import AlreadyExists, Invalid, NotFound, OutcomeUnknown, Retry, StreamError
from s3stream.ports import ObjectStore

_WRITERS = 8
_BODY = b"weir probe 0123456789"


class ProbeReport(NamedTuple):
    """`problems`: what keeps a store from being used at all; `put_if_absent_problem`: what keeps it from carrying the
    write-ahead log, "" if nothing does. Each says what was tried, expected and seen."""

    problems: tuple[str, ...]
    put_if_absent_problem: str

    @property
    def put_if_absent(self) -> bool:
        """Whether the store decides put-if-absent, also between racing writers."""
        return not self.put_if_absent_problem

    def require(self, *, put_if_absent: bool) -> None:
        """Invalid with all reasons unless the store can be used; one node with a file WAL does not need
        `put_if_absent`."""
        reasons = list(self.problems)
        if put_if_absent and self.put_if_absent_problem:
            reasons.append(self.put_if_absent_problem)
        if reasons:
            raise Invalid(f"this object store cannot be used: {'; '.join(reasons)}")


async def probe_store(store: ObjectStore, token: str) -> ProbeReport:
    """Try everything on keys under `probe/<token>/`, which must be random, and remove them. Retry or OutcomeUnknown if
    the store does not answer well enough to tell; Invalid if it refuses outright (credentials). Cancelled, it leaves
    them (four small objects at most): a store that hangs would not remove them either."""
    prefix = f"probe/{token}/"
    async with _removed_after(store, prefix):
        checks = (_check_read, _check_range, _check_overwrite, _check_list, _check_delete)
        found = [await _problem(check, store, prefix) for check in checks]
        absent_problem = await _check_put_if_absent(store, prefix) or await _check_race(store, prefix)
    return ProbeReport(tuple(filter(None, found)), absent_problem)


async def _problem(check: Callable[[ObjectStore, str], Awaitable[str]], store: ObjectStore, prefix: str) -> str:
    try:
        return await check(store, prefix)
    except NotFound as error:
        return f"an object is missing right after its PUT: {error}"


async def _check_read(store: ObjectStore, prefix: str) -> str:
    await store.put(prefix + "read", [_BODY[:5], _BODY[5:]])
    content = bytes(await store.get(prefix + "read"))
    return "" if content == _BODY else f"an object of {len(_BODY)} bytes reads back as {len(content)} other bytes"


async def _check_range(store: ObjectStore, prefix: str) -> str:
    content = bytes(await store.get(prefix + "read", 5, 10))
    return "" if content == _BODY[5:10] else f"bytes 5 to 10 of an object read back as {content[:32]!r}"


async def _check_overwrite(store: ObjectStore, prefix: str) -> str:
    await store.put(prefix + "read", [b"second"])
    content = bytes(await store.get(prefix + "read"))
    return "" if content == b"second" else "an overwritten object still reads as the old one"


async def _check_list(store: ObjectStore, prefix: str) -> str:
    await store.put(prefix + "list", [])
    keys = [info.key async for page in store.list(prefix) for info in page]
    expected = [prefix + "list", prefix + "read"]
    return "" if keys == expected else f"a listing right after two PUTs shows {keys}, expected {expected}"


async def _check_delete(store: ObjectStore, prefix: str) -> str:
    await store.delete([prefix + "list", prefix + "never"])
    try:
        await store.get(prefix + "list")
    except NotFound:
        keys = [info.key async for page in store.list(prefix + "list") for info in page]
        return f"a listing right after a DELETE shows {keys}" if keys else ""
    return "an object is still there right after its DELETE"


async def _check_put_if_absent(store: ObjectStore, prefix: str) -> str:
    key = prefix + "absent"
    try:
        await store.put(key, [b"first"], if_absent=True)
    except AlreadyExists:
        return "a PUT with If-None-Match of a new key was refused as existing"
    except Invalid as error:
        return f"a PUT with If-None-Match was refused: {error}"
    try:
        await store.put(key, [b"second"], if_absent=True)
    except AlreadyExists:
        content = bytes(await store.get(key))
        return "" if content == b"first" else "a refused PUT with If-None-Match changed the object"
    return "a second PUT with If-None-Match of the same key was accepted: the store ignores the header"


async def _check_race(store: ObjectStore, prefix: str) -> str:
    key = prefix + "race"

    async def write(number: int) -> bool:
        try:
            await store.put(key, [b"writer %d" % number], if_absent=True)
        except AlreadyExists:
            return False
        return True

    outcomes = await asyncio.gather(*(write(number) for number in range(_WRITERS)), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Retry | OutcomeUnknown):
            raise Retry(f"the store did not answer a racing PUT: {outcome}") from outcome
        if isinstance(outcome, BaseException):
            raise outcome
    winners = [number for number, won in enumerate(outcomes) if won]
    if len(winners) != 1:
        return f"{len(winners)} of {_WRITERS} racing PUTs with If-None-Match of one key were told that they won"
    content = bytes(await store.get(key))
    return "" if content == b"writer %d" % winners[0] else "the object of a race is not that of the writer who won"


@asynccontextmanager
async def _removed_after(store: ObjectStore, prefix: str) -> AsyncIterator[None]:
    keys = [prefix + name for name in ("read", "list", "absent", "race")]
    try:
        yield
    except Exception:
        with suppress(StreamError):  # what went wrong before says more
            await store.delete(keys)
        raise
    await store.delete(keys)
