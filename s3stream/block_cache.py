"""Cache of verified blocks from the store: a segmented LRU bounded by bytes, safe against scans.

A block starts in the probation segment. It moves to the protected one when a second reader *enters* it (reads from its
first batch, or seeks into it): the many small fetches of one scan enter a block once, so a cold scan only ever cycles
through probation and the blocks that several consumers share stay. What falls out of the protected segment gets one
more round in probation.

Blocks that came in one GET share its memory, which is free when the last of them goes: probation is first in, first
out, so they go together, and a block that is promoted takes its batches along as a copy. `bytes_used` counts blocks:
what is left of a GET at the head of the queue holds up to one read-ahead window more.

Keys are (object_id, position): objects never change, so there is nothing to invalidate. Blocks of deleted objects are
not reachable any more and age out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from s3stream.batch_walk import BatchIndex
from s3stream.metrics import EngineMetrics
from s3stream.read_ahead import ReadAhead

_INDEX_BYTES_PER_BATCH = 32
_ENTRY_BYTES = 400
_PROTECTED_SHARE = 0.8


class BlockKey(NamedTuple):
    object_id: int
    position: int


class CachedBlock:
    """One block in memory; `reader` is whose read-ahead brought it, until somebody reads it."""

    __slots__ = ("batches", "cost_bytes", "entered", "reader")

    def __init__(self, batches: BatchIndex, reader: ReadAhead | None) -> None:
        self.batches = batches
        self.reader = reader
        self.entered = False
        self.cost_bytes = len(batches.payload) + _INDEX_BYTES_PER_BATCH * len(batches) + _ENTRY_BYTES


class BlockCache:
    """At most `max_bytes` of blocks, the accounting of their indexes included."""

    def __init__(self, max_bytes: int, metrics: EngineMetrics) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._protected_max_bytes = int(max_bytes * _PROTECTED_SHARE)
        self._probation: OrderedDict[BlockKey, CachedBlock] = OrderedDict()
        self._protected: OrderedDict[BlockKey, CachedBlock] = OrderedDict()
        self._protected_bytes = 0
        self.bytes_used = 0

    def __len__(self) -> int:
        return len(self._probation) + len(self._protected)

    def __contains__(self, key: BlockKey) -> bool:
        return key in self._probation or key in self._protected

    def get(self, key: BlockKey, entering: bool) -> CachedBlock | None:
        """The block, or None. `entering`: this read is the reader's first in the block."""
        block = self._protected.get(key)
        if block is not None:
            self._protected.move_to_end(key)
            block.reader = None
            return block
        block = self._probation.get(key)
        if block is None:
            return None
        block.reader = None
        if entering and block.entered:
            self._promote(key, block)
        elif entering:
            block.entered = True
        return block

    def put(self, key: BlockKey, block: CachedBlock) -> None:
        """Add a block. One larger than the whole cache is not kept."""
        if key in self or block.cost_bytes > self._max_bytes:
            return
        self._probation[key] = block
        self.bytes_used += block.cost_bytes
        while self.bytes_used > self._max_bytes:
            self._evict_one()

    def clear(self) -> None:
        self._probation.clear()
        self._protected.clear()
        self._protected_bytes = self.bytes_used = 0

    def _promote(self, key: BlockKey, block: CachedBlock) -> None:
        del self._probation[key]
        block.batches.own()
        self._protected[key] = block
        self._protected_bytes += block.cost_bytes
        while self._protected_bytes > self._protected_max_bytes and len(self._protected) > 1:
            old_key, old = self._protected.popitem(last=False)
            self._protected_bytes -= old.cost_bytes
            old.entered = False
            self._probation[old_key] = old

    def _evict_one(self) -> None:
        if self._probation:
            _, block = self._probation.popitem(last=False)
        else:
            _, block = self._protected.popitem(last=False)
            self._protected_bytes -= block.cost_bytes
        self.bytes_used -= block.cost_bytes
        if block.reader is not None:
            self._metrics.read_ahead_wasted += 1
            block.reader.wasted()
