"""The file WAL: the life of the log, from what an earlier start left to `close`. Frames in numbered segments;
`group_commit.py` writes them.

Every WAL epoch starts in a fresh segment with the rewritten survivors of the epoch before, then a SEAL: until the
SEAL is durable the epoch acknowledges nothing and the older segments stay (`recovery.py` has the other half of it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s3stream.errors import Invalid
from s3stream.ports import WalDevice, WalRecord
from s3stream.wal.group_commit import GroupCommit, WalStats
from s3stream.wal.recovery import Recovered, recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWalSettings:
    """`capacity_bytes`: disk space of the segments in use, at least four of them; the last one is a reserve for frame
    headers and the unused ends of segments, so `free_bytes` begins a segment below it. `grace_ms`: how long a trimmed
    segment is kept, unless its space is needed. `create_retry_ms`: pause after a disk without space. `accept_loss`:
    start up even if acknowledged frames cannot be read, with what precedes them. `hold_ms`: how long a group waits at
    most for those whom the one before it answered."""

    capacity_bytes: int = 1024 * 1024 * 1024
    grace_ms: int = 0
    create_retry_ms: int = 1000
    accept_loss: bool = False
    hold_ms: float = 1.0


class FileWal:
    """`ports.Wal` over a `WalDevice`. `on_durable(entries)` per group and `on_fatal(error)`, once, run on the loop."""

    def __init__(
        self,
        device: WalDevice,
        settings: FileWalSettings,
        on_durable: Callable[[Sequence[object]], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.recovered: Recovered | None = None
        """What `recover` found; `loss` in it says what was given up, if `accept_loss` allowed it."""
        self._device, self._accept_loss = device, settings.accept_loss
        self._groups = groups = GroupCommit(
            device,
            capacity_bytes=settings.capacity_bytes,
            grace_ms=settings.grace_ms,
            retry_ms=settings.create_retry_ms,
            hold_ms=settings.hold_ms,
            on_durable=on_durable,
            on_fatal=on_fatal,
        )
        self.max_payload_bytes = groups.max_payload_bytes
        # Of the port, and called for every batch or request: no call in between.
        self.append = groups.append
        self.free_bytes = groups.free_bytes
        self.trim = groups.trim
        self._old: list[int] = []
        self._begun = self._closed = False

    @property
    def stats(self) -> WalStats:
        return self._groups.stats

    async def recover(self, trim_lsn: int) -> Sequence[WalRecord]:
        """See the port."""
        if self.recovered is not None:
            raise Invalid("the WAL was recovered already")
        self._old = list(await self._device.list_segments())
        steps = recovery(self._old, trim_lsn, accept_loss=self._accept_loss)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(await self._device.read_segment(*wanted))
        except StopIteration as end:
            found: Recovered = end.value
        self.recovered = found._replace(records=[])
        self._groups.next_lsn = found.next_lsn
        return found.records

    async def begin(self, wal_epoch: int, survivors: Sequence[WalRecord]) -> Sequence[int]:
        """See the port. Retry when the disk has no space for it; Invalid when `wal_epoch` is not above all it holds."""
        if self.recovered is None or self._begun or self._closed:
            raise Invalid("begin comes once, after recover")
        if wal_epoch <= self.recovered.wal_epoch:
            raise Invalid(
                f"the WAL holds epoch {self.recovered.wal_epoch}, the metadata grants {wal_epoch}: the metadata is "
                "older than the WAL or belongs to another one"
            )
        self._begun = True
        groups = self._groups
        segment = max(self._old, default=0) + 1
        groups.begin(wal_epoch, segment)
        await self._device.remove_segments(self.recovered.unused)
        await groups.keeper.start(segment, groups.next_lsn)
        lsns = [self.append(*record[1:], None) for record in survivors]
        if lsns:
            # The SEAL must not be on the disk before all of them are.
            await self._until_durable(lsns[-1])
        await self._until_durable(groups.seal())
        groups.accept()
        await self._device.remove_segments([number for number in self._old if number not in self.recovered.unused])
        return lsns

    async def close(self) -> None:
        """Sync what is queued and stop. Retry when something could not be written for want of disk space."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._groups.stop():
                await self._until_durable(self._groups.next_lsn - 1)
        finally:
            await self._groups.keeper.close()
            await self._device.close()

    def next_lsn(self) -> int:
        return self._groups.next_lsn

    def durable_lsn(self) -> int:
        return self._groups.durable_lsn

    async def _until_durable(self, lsn: int) -> None:
        reached = self._groups.reached(lsn)
        if reached is not None:
            await reached
