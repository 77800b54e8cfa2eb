"""What a running broker shows of itself: lag of groups, `/metrics`, `/healthz`, `/readyz`."""

from __future__ import annotations

from broker.health import LoopLag, Readiness, health_page, readiness_page
from broker.http import HttpServer, serve_http
from broker.lag import LagSampler
from broker.metrics import Sources, metrics_page, registry_of
from broker.net.listener import Listener
from broker.services import Services
from s3stream.arena import Arena
from s3stream.ports import ObjectStore
from s3stream.stores.instrumented import InstrumentedObjectStore

_LAG_INTERVAL_MS = 10_000


class Observability:
    """Owns the loop-lag timer, the lag sampler and the HTTP server of one broker."""

    def __init__(self, services: Services, listener: Listener, arena: Arena, store: ObjectStore) -> None:
        self._services = services
        self.arena = arena
        self._loop_lag = LoopLag()
        self.group_lag = LagSampler(services.groups, services.partitions, services.clock, _LAG_INTERVAL_MS)
        self.readiness = Readiness()
        self.readiness.add("listener", lambda: None if listener.listening else "accepts no connections")
        self.readiness.add("storage", self._storage_problem)
        self.readiness.add("groups", self._groups_problem)
        self._registry = registry_of(
            Sources(
                counters=services.counters,
                engine=services.engine,
                arena=arena,
                image=lambda: services.image,
                lag=self._loop_lag,
                connections=lambda: len(listener.connections),
                store=store.counters if isinstance(store, InstrumentedObjectStore) else None,
                group_lag=lambda: self.group_lag.samples,
            )
        )
        self._http: HttpServer | None = None
        self.http_port: int | None = None

    async def start(self) -> None:
        """Begin to measure; listen unless `http.port` is -1."""
        http = self._services.settings.http
        self._loop_lag.start()
        self._services.supervisor.spawn("lag of groups", self.group_lag.run())
        if http.port < 0:
            return
        served = await serve_http(
            http.host,
            http.port,
            {
                "/metrics": lambda: metrics_page(self._registry),
                "/healthz": lambda: health_page(self._loop_lag, http.health_max_lag_ms),
                "/readyz": lambda: readiness_page(self.readiness),
            },
        )
        if served is not None:
            self._http, self.http_port = served

    async def close(self) -> None:
        self._loop_lag.close()
        if self._http is not None:
            await self._http.close()

    def _storage_problem(self) -> str | None:
        failure = self._services.engine.failure
        return None if failure is None else f"nothing is acknowledged any more: {failure}"

    def _groups_problem(self) -> str | None:
        loading = self._services.groups.loading_partitions()
        return f"{loading} partitions of the offsets topic are loading" if loading else None
