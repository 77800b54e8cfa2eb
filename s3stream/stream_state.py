"""The state that the owner of a stream keeps with it: opaque bytes, folded over the batches by a pure function.

The engine stores the state at the end of every run that it uploads and never looks inside. Because it is the fold of
exactly the run's batches over the state at the run's start, it belongs to the run's end offset by construction; a live
snapshot would be ahead of the cut, and replay would apply those batches twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from s3stream.object_format import AbortedTxn


class StateFold(NamedTuple):
    """`state` after some batches, and the aborted transactions whose markers lie in them."""

    state: bytes | None
    aborted: Sequence[AbortedTxn]


FoldState = Callable[[bytes | None, Sequence[memoryview]], StateFold]
"""Pure, and a homomorphism: fold(fold(s, a), b) == fold(s, a + b), aborted lists joined, but for what a state forgets
by age at each fold. The engine relies on it to fold a long run in slices."""

SLICE_BATCHES = 256
"""About 0.2 ms of the broker's fold with few producers, 2 ms if each batch has its own; reading and writing the state
comes once per slice."""


def no_state(state: bytes | None, batches: Sequence[memoryview]) -> StateFold:
    """For streams without state: nothing is stored and nothing read back."""
    del batches
    return StateFold(state, ())


async def fold_in_slices(fold: FoldState, state: bytes | None, batches: Sequence[memoryview]) -> StateFold:
    """`fold` over a whole run, giving the loop its turn between slices."""
    aborted: list[AbortedTxn] = []
    for begin in range(0, len(batches), SLICE_BATCHES):
        state, more = fold(state, batches[begin : begin + SLICE_BATCHES])
        aborted.extend(more)
        await asyncio.sleep(0)
    return StateFold(state, aborted)
