"""What a log has to ask storage for before it can tell: its producers' state and its leader epochs. (Apart from the log
so that nothing there waits.)"""

from __future__ import annotations

from broker.partitions.log import PartitionLog
from broker.partitions.producer_state import ProducerState


async def load_producers(log: PartitionLog) -> None:
    """Make `log.producers` ready: the last committed STATE and the tail after it."""
    if log.producers is not None:
        return
    state, tail = await log.stream.load_state()
    if log.producers is None:
        producers = ProducerState.decode(state)
        producers.replay(tail)
        log.producers = producers


async def epoch_history(log: PartitionLog) -> list[tuple[int, int]]:
    """(leader epoch, start offset), ascending; the only history there is."""
    if log.epochs is None:
        log.epochs = list(await log.stream.epochs())
    return log.epochs
