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

    `stop()` flushes and uploads; a broker that is simply dropped loses nothing acknowledged either.
    """

    def __init__(
        self, settings: Settings | Mapping[str, object] | None = None, *, adapters: OpenAdapters = open_adapters
    ) -> None:
        self.settings = settings if isinstance(settings, Settings) else settings_of(settings or {})
        self._open_adapters = adapters
        self.failed: asyncio.Future[BaseException] | None = None
        self.bootstrap = ""
