"""One simulated world, built from one seed: a broker host with its devices, a network, a store, and clients.

What outlives a broker process lives here: disk, bucket, metadata file, clock. The broker itself is started by
`broker_process.py` and is the unmodified product.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from benchmarks.verify.history import History
from tests.simulation.clock import WallClock
from tests.simulation.database import DatabaseSettings, MetadataFile
from tests.simulation.disk import Disk, DiskSettings
from tests.simulation.errors import SimulationFailure
from tests.simulation.link import NetworkSettings
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network
from tests.simulation.nodes import Node, NodeState
from tests.simulation.randomness import stream
from tests.simulation.rare_paths import RarePaths
from tests.simulation.store import Bucket, StoreSettings
from tests.simulation.trace import Trace

BROKER = "broker"
PORT = 9092


@dataclass
class WorldSettings:
    """How the world is made; scenarios change the parts while it runs. `broker` overrides settings of the broker."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    broker: dict[str, object] = field(default_factory=dict)
    segment_size_bytes: int = 256 * 1024
    restart_max_s: float = 0.5
    clock_offset_ms: int = 0


Process = Callable[["World", Node], Coroutine[Any, Any, None]]
"""The main coroutine of a broker process. It returns when the process ends by itself; an exception fails the run."""


class World:
    """Call `close()` at the end; nothing of a world may be used after it. `fired` counts every fault that happened, and
    under "rare: ..." what the broker did because of them."""

    def __init__(
        self, seed: int, process: Process, settings: WorldSettings | None = None, trace: Trace | None = None
    ) -> None:
        self.seed = seed
        self.settings = settings if settings is not None else WorldSettings()
        self.fired: Counter[str] = Counter()
        self.rare_paths = RarePaths(self.fired)
        self.history = History()
        self.loop = SimulatedLoop(trace=trace)
        self.clock = WallClock(self.loop, self.settings.clock_offset_ms, self.fired)
        self.network = Network(self.loop, self.rng("network"), self.settings.network, self.fired)
        self.disk = self._new_disk()
        self.bucket = Bucket(self.loop, self.rng("store"), self.clock, self.fired, self.settings.store)
        self.metadata = self._new_metadata()
        self._process = process
        self._chaos = self.rng("chaos")
        self.interpose: Callable[[str, Any], Any] = lambda port, adapter: adapter
        """What a process gets as its "wal", "store" or "database"; for faults at a chosen call."""
        self._disks_lost = 0
        if self.settings.clock_offset_ms:
            self.fired["clock: skewed at start"] += 1

    def rng(self, name: str) -> random.Random:
        """The random stream of this name."""
        return stream(self.seed, name)

    def _new_disk(self, name: str = "disk") -> Disk:
        return Disk(self.loop, self.rng(name), self.fired, self.settings.segment_size_bytes, self.settings.disk)

    def _new_metadata(self, name: str = "metadata") -> MetadataFile:
        return MetadataFile(self.loop, self.rng(name), self.clock, self.fired, self.settings.database)

    # -- the broker process

    def broker(self) -> Node | None:
        """The current incarnation, unless it is dead."""
        node = self.loop.nodes.get(BROKER)
        return None if node is None or node.state is NodeState.DEAD else node

    def uploads(self) -> int:
        """How many uploads the broker that runs has committed."""
        broker = self.rare_paths.broker
        return 0 if broker is None or broker.services is None else broker.services.engine.metrics.uploads

    def start_broker(self) -> None:
        """Start the next incarnation, if none lives."""
        if self.broker() is not None:
            return
        node = self.loop.start_node(BROKER)
        task = self.loop.spawn(node, self._process(self, node), name=f"{node.label} main")
        task.add_done_callback(lambda done: self._broker_ended(node, done), context=node.new_context())

    def _broker_ended(self, node: Node, task: Any) -> None:
        """The process ended by itself: end all that is left of it, then start it again."""
        error = task.exception()
        if error is not None:
            failure = SimulationFailure(f"the broker process ended with {error!r}")
            failure.__cause__ = error
            self.loop.fail(failure)
            return
        self.fired["broker: ended by itself"] += 1
        self.loop.call_world(0, self._end_process, node)

    def _end_process(self, node: Node) -> None:
        if node.state is not NodeState.DEAD:
            self._end(node, power_cut=False)
            if self.disk.flips and self._chaos.random() < 0.5:
                self.disk.mend()  # somebody read the error and restored the files
            self._restart_soon()

    def _end(self, node: Node, *, power_cut: bool) -> None:
        self.rare_paths.collect()
        self.loop.kill(node, power_cut=power_cut)
        self.disk.process_killed(node)
        if power_cut:
            self.disk.power_cut()

    def _restart_soon(self) -> None:
        self.loop.call_world(self._chaos.uniform(0, self.settings.restart_max_s), self.start_broker)

    def kill_broker(self, *, power_cut: bool = False, restart: bool = True) -> bool:
        """Kill the process, or cut the power of its host; it starts again soon, or when `start_broker` is called. False
        when none was alive."""
        node = self.broker()
        if node is None:
            return False
        if node.paused():
            self.fired["process killed while paused"] += 1
        self.fired["power cut" if power_cut else "process kill"] += 1
        self._end(node, power_cut=power_cut)
        if restart:
            self._restart_soon()
        return True

    def pause_broker(self, duration_s: float) -> bool:
        """Stop the process as SIGSTOP does and let it go on after `duration_s`, unless it is dead by then. False when
        none was running."""
        node = self.broker()
        if node is None or not node.running():
            return False
        self.fired["process pause"] += 1
        self.loop.pause(node)
        self.loop.call_world(duration_s, self._resume, node)
        return True

    def _resume(self, node: Node) -> None:
        if node.paused():
            self.loop.resume(node)

    def lose_disk(self, *, metadata: bool) -> None:
        """The dead broker's WAL is gone, and with `metadata` all of its data directory: it starts on an empty one. What
        only they held is lost by definition; what the broker must not do is to go on as if nothing was."""
        if self.broker() is not None:
            raise SimulationFailure("the disk of a living broker cannot be taken away")
        self.fired["disk: lost"] += 1
        self._disks_lost += 1
        self.disk = self._new_disk(f"disk/{self._disks_lost}")
        if metadata:
            self.metadata.forget()
            self.metadata = self._new_metadata(f"metadata/{self._disks_lost}")

    # -- faults in general

    def heal(self) -> None:
        """End every fault: from here on the world must come to rest and answer."""
        self.network.heal_all()
        self.network.read_rate_bytes_per_s.clear()
        self.network.settings = NetworkSettings(slow_packet_share=0)
        self.disk.end_troubles()
        self.bucket.end_troubles()
        self.metadata.end_troubles()
        for node in list(self.loop.nodes.values()):
            if node.state is NodeState.PAUSED:
                self.loop.resume(node)

    def close(self) -> None:
        self.rare_paths.collect()
        self.loop.close()
        self.metadata.forget()
