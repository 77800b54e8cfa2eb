"""The health pages of a broker are there before a client can connect, and still there when none can any more."""

from __future__ import annotations

import asyncio

import pytest

from broker.app import Broker
from broker.embedded import SMALL
from broker.net.listener import Listener


async def readiness(broker: Broker) -> str:
    port = broker.observability.http_port
    assert port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2].decode()


async def test_the_pages_outlive_the_listener_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    start, close = Listener.start, Listener.close
    answers: list[str] = []

    async def start_asked(listener: Listener, host: str, port: int) -> int:
        answers.append(await readiness(broker))
        return await start(listener, host, port)

    async def close_asked(listener: Listener, timeout_s: float) -> None:
        await close(listener, timeout_s)
        answers.append(await readiness(broker))

    monkeypatch.setattr(Listener, "start", start_asked)
    monkeypatch.setattr(Listener, "close", close_asked)
    broker = Broker({**SMALL, "http.port": 0})
    async with broker:
        async with asyncio.timeout(30):
            while (answer := await readiness(broker)) != "ready\n":  # the offsets topic is being loaded
                assert "listener" not in answer
                await asyncio.sleep(0.05)
    closed = "listener: accepts no connections\n"
    assert [closed in answer for answer in answers] == [True, True]
