"""The composition of one broker: the only place where adapters meet the engine, the logs and the network."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import uvloop

from broker.adapters import Adapters, OpenAdapters, open_adapters
from broker.cluster.controller import Controller
from broker.cluster.store import ClusterStore
from broker.counters import BrokerCounters
from broker.fetching.sessions import FetchSessions
from broker.groups.coordinator import GroupCoordinator
from broker.handlers.produce import NOT_FROM_CLIENTS
from broker.http import HttpServer
from broker.logging import configure_logging
from broker.net.dispatch import Dispatcher
from broker.net.listener import Listener
from broker.partitions.producer_state import fold
from broker.partitions.registry import Partitions
from broker.producer_ids import ProducerIds
from broker.services import Services
from broker.settings import Settings, settings_of
from s3stream.arena import Arena
from s3stream.engine import StreamEngine
from s3stream.errors import Fatal
from s3stream.meta.store import MetaStore
from s3stream.supervisor import Supervisor

_log = logging.getLogger("weir")


class Broker:
    """One broker. `async with Broker({"data.dir": "memory:"}) as broker: broker.bootstrap`.

    `stop()` flushes and uploads; a broker that is simply dropped loses nothing acknowledged either.
    """

    def __init__(
        self, settings: Settings | Mapping[str, object] | None = None, *, adapters: OpenAdapters = open_adapters
    ) -> None:
        self.settings = settings if isinstance(settings, Settings) else settings_of(settings or {})
        self._open_adapters = adapters
        self.failed: asyncio.Future[BaseException] | None = None
        self.bootstrap = ""
