"""The composition of one broker: the only place where adapters meet the engine, the logs and the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from broker.adapters import OpenAdapters, open_adapters
from broker.settings import Settings, settings_of

_log = logging.getLogger("weir")


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
        self.http: HttpServer | None = None
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

        store = ClusterStore(adapters.database)
        arena = Arena(settings.cache.chunk_size_bytes, arena_bytes(settings))
        engine = await self._start_engine(adapters, supervisor, arena)
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
            producer_ids=ProducerIds(store.allocate_producer_ids, supervisor),
            fetch_sessions=FetchSessions(settings.network.fetch_session_slots, adapters.rng),
            counters=counters,
        )
        controller.subscribe(lambda change: _groups_follow(groups, change))
        await controller.start()
        await controller.open_logs()
        closers.push_async_callback(groups.close)

        listener = Listener(
            arena=arena,
            dispatch=Dispatcher(services),
            max_request_size_bytes=settings.network.request_max_bytes,
            max_connections=settings.network.max_connections,
            connections_max_idle_ms=settings.network.connections_max_idle_ms,
        )
        port = await listener.start(listener_address.host, listener_address.port)
        closers.push_async_callback(listener.close, settings.network.shutdown_timeout_ms / 1000)
        controller.advertise(self._endpoint(port))
        self.bootstrap = f"{listener_address.host}:{port}"
        _log.info("broker is up", extra={"bootstrap": self.bootstrap, "cluster": controller.image.cluster_id})
