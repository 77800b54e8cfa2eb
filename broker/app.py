"""The composition of one broker: the only place where adapters meet the engine, the logs and the network."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from broker.adapters import Adapters, OpenAdapters, open_adapters
from broker.cluster.controller import Controller, ImageChange, settle_cluster_id
from broker.cluster.image import BrokerEndpoint
from broker.cluster.names import CONSUMER_OFFSETS
from broker.cluster.store import ClusterStore
from broker.counters import BrokerCounters
from broker.engine_settings import arena_bytes, engine_settings, group_settings, wal_settings
from broker.fetching.sessions import FetchSessions
from broker.groups.coordinator import GroupCoordinator
from broker.logging import Sparingly
from broker.net.dispatch import Dispatcher
from broker.net.listener import Listener
from broker.observability import Observability
from broker.partitions.coordinator_log import PartitionCoordinatorLog
from broker.partitions.producer_state import fold
from broker.partitions.registry import Partitions
from broker.partitions.retention import retention_policy
from broker.producer_ids import ProducerIds
from broker.services import Services
from broker.settings import Settings, settings_of
from s3stream.arena import Arena
from s3stream.engine import StreamEngine
from s3stream.errors import NotFound
from s3stream.meta.store import MetaStore
from s3stream.supervisor import Supervisor
from s3stream.wal.file_wal import FileWal

_log = logging.getLogger("weir")
_PRODUCER_IDS = 1_000
"""Producer ids reserved at once, as in Kafka."""


class Broker:
    """One broker. `async with Broker({"data.dir": "memory:"}) as broker: broker.bootstrap`.

    `stop()` answers what is under way and uploads; a broker that is simply killed loses nothing acknowledged either.
    """

    def __init__(
        self, settings: Settings | Mapping[str, object] | None = None, *, adapters: OpenAdapters = open_adapters
    ) -> None:
        self.settings = settings if isinstance(settings, Settings) else settings_of(settings or {})
        self._open_adapters = adapters
        self._failed: asyncio.Future[BaseException] | None = None
        self._closers = AsyncExitStack()
        self.services: Services | None = None
        self.observability: Observability | None = None
        self.bootstrap = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Recover, open every log, then listen. Raises what stands in the way, after closing what was opened."""
        try:
            await self._start()
        except BaseException:
            await self._closers.aclose()
            raise

    async def stop(self) -> None:
        """Answer what is owed, upload what only the WAL holds, close everything. Safe to call once."""
        await self._closers.aclose()

    async def failure(self) -> BaseException:
        """Waits until the broker can no longer keep its promises; returns why. It then acknowledges nothing more."""
        assert self._failed is not None, "start first"
        return await asyncio.shield(self._failed)

    async def _start(self) -> None:
        settings, closers = self.settings, self._closers
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        adapters = await self._open_adapters(settings)
        closers.push_async_callback(adapters.close)
        supervisor = Supervisor(self._crashed)
        closers.push_async_callback(supervisor.close)

        store = ClusterStore(adapters.database, adapters.rng)
        await store.migrate()
        cluster_id = await settle_cluster_id(store, settings.broker.cluster_id, adapters.rng, adapters.clock.now_ms())
        arena = Arena(settings.cache.chunk_size_bytes, arena_bytes(settings))
        engine = await self._start_engine(adapters, supervisor, arena, cluster_id)
        partitions = Partitions(engine, adapters.clock)
        listener_address = settings.network.listeners[0]
        controller = Controller(
            store=store,
            settings=settings,
            host=partitions,
            endpoint=self._endpoint(listener_address.port),
            clock=adapters.clock,
            rng=adapters.rng,
            supervisor=supervisor,
        )
        controller.subscribe(partitions.image_changed)
        counters = BrokerCounters()
        groups = GroupCoordinator(
            settings=group_settings(settings),
            clock=adapters.clock,
            rng=adapters.rng,
            supervisor=supervisor,
            open_log=lambda index: _coordinator_log(partitions, engine, index),
        )
        services = self.services = Services(
            settings=settings,
            clock=adapters.clock,
            rng=adapters.rng,
            supervisor=supervisor,
            engine=engine,
            partitions=partitions,
            cluster=controller,
            groups=groups,
            producer_ids=ProducerIds(lambda: store.allocate_producer_ids(_PRODUCER_IDS), supervisor),
            fetch_sessions=FetchSessions(
                settings.network.fetch_session_slots, settings.network.fetch_session_evict_after_ms, adapters.rng
            ),
            counters=counters,
            log_sparingly=Sparingly(_log, loop.time).log,
        )
        controller.subscribe(lambda change: _groups_follow(groups, partitions, change))
        await controller.start()
        closers.push_async_callback(controller.close, settings.network.shutdown_timeout_ms / 1000)
        await controller.open_logs()

        listener = Listener(
            arena=arena,
            dispatch=Dispatcher(services),
            make_room=engine.evict,
            max_request_size_bytes=settings.network.request_max_bytes,
            max_connections=lambda: controller.image.layers.max_connections(),
            max_connections_per_ip=lambda: controller.image.layers.max_connections_per_ip(),
            connections_max_idle_ms=settings.network.connections_max_idle_ms,
            listen_backlog=settings.network.listen_backlog,
        )
        # Before the listener: who has seen that open may ask for these pages. After it at the end, for the same reason.
        self.observability = Observability(services, listener, arena, adapters.store)
        check = adapters.store_check
        if check is not None:
            self.observability.readiness.add("object store", lambda: check.problem)
        await self.observability.start()
        closers.push_async_callback(self.observability.close)
        port = await listener.start(listener_address.host, listener_address.port)
        closers.push_async_callback(listener.close, settings.network.shutdown_timeout_ms / 1000)
        # Before the listener: it waits for answers, and members may wait in JoinGroup for minutes.
        closers.push_async_callback(groups.close)
        controller.advertise(self._endpoint(port))
        if check is not None:
            supervisor.spawn("check of the object store", check.run())
        self.bootstrap = f"{listener_address.host}:{port}"
        _log.info("broker is up", extra={"bootstrap": self.bootstrap, "cluster": controller.image.cluster_id})

    async def _start_engine(
        self, adapters: Adapters, supervisor: Supervisor, arena: Arena, cluster_id: str
    ) -> StreamEngine:
        settings = self.settings
        meta = MetaStore(adapters.database)
        engine = StreamEngine(
            broker_id=settings.broker.node_id,
            settings=engine_settings(settings, cluster_id),
            wal_factory=lambda on_durable, on_fatal: FileWal(
                adapters.wal_device, wal_settings(settings, adapters.wal_device), on_durable, on_fatal
            ),
            store=adapters.store,
            meta=meta,
            clock=adapters.clock,
            rng=adapters.rng,
            supervisor=supervisor,
            fold_state=fold,
            arena=arena,
            retention_policy=lambda stream_id: (
                retention_policy(self.services.partitions, stream_id) if self.services is not None else None
            ),
        )
        report = await engine.start()
        self._closers.push_async_callback(
            engine.close, upload=True, timeout_s=settings.network.shutdown_timeout_ms / 1000
        )
        _log.info("recovered", extra=report._asdict())
        return engine

    def _endpoint(self, port: int) -> BrokerEndpoint:
        network, broker = self.settings.network, self.settings.broker
        listener = network.listeners[0]
        advertised = network.advertised_listeners[0] if network.advertised_listeners else None
        if advertised is not None:
            return BrokerEndpoint(broker.node_id, advertised.host, advertised.port or port, broker.rack)
        host = listener.host or socket.getfqdn()  # every interface: Kafka tells the name of the machine, too
        return BrokerEndpoint(broker.node_id, host, port, broker.rack)

    def _crashed(self, name: str, error: BaseException) -> None:
        """Background work has died: nothing that depends on it may be promised any more."""
        _log.critical("background work failed", extra={"task": name}, exc_info=error)
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(error)


def _coordinator_log(partitions: Partitions, engine: StreamEngine, index: int) -> PartitionCoordinatorLog:
    log = partitions.get(CONSUMER_OFFSETS, index)
    if log is None:
        raise NotFound(f"{CONSUMER_OFFSETS}-{index} is not led here")
    return PartitionCoordinatorLog(log, engine)


def _groups_follow(groups: GroupCoordinator, partitions: Partitions, change: ImageChange) -> None:
    """The coordinator leads what this broker leads of the offsets topic, and forgets offsets of deleted topics."""
    for topic in change.deleted:
        groups.topic_deleted(topic.name, topic.topic_id)
    for topic in change.created:
        if topic.name == CONSUMER_OFFSETS:
            led = [index for index in range(topic.partition_count) if partitions.get(topic.name, index) is not None]
            groups.on_partitions_led(led, topic.partition_count)
