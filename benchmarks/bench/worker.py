"""The entry of a client process: runs its job and turns what goes wrong into a message for the user."""

from __future__ import annotations

import signal
from typing import Any

from benchmarks.bench import messages
from benchmarks.bench.librdkafka import ClientError


def work(encoded: bytes, pipe: Any, control: Any) -> None:
    """Run one `Job`, given in msgpack. Interrupts are the parent's business, which ends this process."""
    import msgspec

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = msgspec.msgpack.decode(encoded, type=messages.Job)
    try:
        if job.kind == "produce":
            from benchmarks.bench.producing import Producing

            Producing(job, pipe, control).run()
        else:
            from benchmarks.bench import reading

            reading.run(job, pipe, control)
    except (ClientError, TimeoutError, RuntimeError, OSError, MemoryError) as error:
        messages.send(pipe, messages.Failed(worker=job.number, reason=f"{type(error).__name__}: {error}"))
