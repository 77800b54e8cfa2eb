"""What the handlers may use: one structure, made once in `broker.app`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3stream.ports import Clock
from s3stream.supervisor import Supervisor

if TYPE_CHECKING:
    from broker.cluster.controller import Controller
    from broker.cluster.image import ClusterImage
    from broker.counters import BrokerCounters
    from broker.fetching.sessions import FetchSessions
    from broker.groups.coordinator import GroupCoordinator
    from broker.partitions.registry import Partitions
    from broker.producer_ids import ProducerIds
    from broker.settings import Settings
    from s3stream.engine import StreamEngine


@dataclass(slots=True)
class Services:
    """Shared by every connection of one broker; nothing here is made per request."""

    settings: Settings
    clock: Clock
    rng: random.Random
    supervisor: Supervisor
    engine: StreamEngine
    partitions: Partitions
    cluster: Controller
    groups: GroupCoordinator
    producer_ids: ProducerIds
    fetch_sessions: FetchSessions
    counters: BrokerCounters
    log_sparingly: Callable[[int, str, Mapping[str, object]], None]
    """For what a client can cause with every request."""

    @property
    def image(self) -> ClusterImage:
        """The metadata snapshot that answers are made from; changes only between two turns of the loop."""
        return self.cluster.image
