"""The simulated network: order, chunking, flow control, held buffers, resets, partitions, slow readers, dead peers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.simulation.errors import SimulationFailure
from tests.simulation.link import NetworkSettings
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network
from tests.simulation.nodes import Node
from tests.simulation.randomness import stream


class World:
    def __init__(self, seed: int = 7, **settings: float) -> None:
        self.loop = SimulatedLoop()
        self.network = Network(self.loop, stream(seed, "network"), NetworkSettings(**settings))  # type: ignore[arg-type]
        self.server = self.loop.start_node("server")
        self.client = self.loop.start_node("client")

    def run(self, *programs: tuple[Node, Coroutine[Any, Any, Any]]) -> list[Any]:
        async def main() -> list[Any]:
            return list(await asyncio.gather(*(self.loop.spawn(node, program) for node, program in programs)))

        result: list[Any] = self.loop.run_until_complete(main(), limit_s=600)
        return result


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.loop.close()


async def echo_server(port: int = 9000) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100_000):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", port)
    assert server.sockets[0].getsockname()[1] == port


async def echo_client(payload: bytes, port: int = 9000) -> bytes:
    await asyncio.sleep(0.5)
    reader, writer = await asyncio.open_connection("server", port)
    assert writer.get_extra_info("peername")[1] == port
    assert writer.get_extra_info("socket") is None
    sending = asyncio.create_task(send(writer, payload))
    answer = await reader.readexactly(len(payload))
    await sending
    writer.close()
    await writer.wait_closed()
    return answer


async def send(writer: asyncio.StreamWriter, payload: bytes) -> None:
    for start in range(0, len(payload), 10_000):
        writer.write(payload[start : start + 10_000])
        await writer.drain()


def test_streams_echo_in_order_through_small_windows(world: World) -> None:
    payload = random.Random(1).randbytes(3_000_000)
    _, answer = world.run((world.server, echo_server()), (world.client, echo_client(payload)))
    assert answer == payload


def test_the_same_seed_gives_the_same_digest_and_another_seed_another() -> None:
    def digest(seed: int) -> str:
        world = World(seed)
        world.run((world.server, echo_server()), (world.client, echo_client(b"abc" * 100_000)))
        world.loop.close()
        return world.loop.trace.digest()

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_nobody_listening_is_refused_and_port_zero_gets_one(world: World) -> None:
    async def client() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("server", 1)

    async def server() -> int:
        made = await asyncio.start_server(lambda r, w: w.close(), "localhost", 0)
        port: int = made.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.abort()
        return port

    assert world.run((world.client, client()), (world.server, server()))[1] > 0


class Collector(asyncio.BufferedProtocol):
    """A buffered protocol with a small buffer; can pause itself."""

    def __init__(self) -> None:
        self.buffer = bytearray(1000)
        self.data = bytearray()
        self.transport: asyncio.Transport | None = None
        self.lost: list[Exception | None] = []
        self.pause_every_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        if self.pause_every_bytes and self.transport is not None:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.01, self.transport.resume_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Sender(asyncio.Protocol):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.lost: list[Exception | None] = []

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@pytest.mark.parametrize("pause_every_bytes", [0, 1])
def test_buffered_protocols_get_every_byte(world: World, pause_every_bytes: int) -> None:
    collector = Collector()
    collector.pause_every_bytes = pause_every_bytes
    payload = random.Random(2).randbytes(300_000)

    async def server() -> None:
        await world.loop.create_server(lambda: collector, None, 9000)

    async def client() -> Sender:
        await asyncio.sleep(1)
        transport, sender = await world.loop.create_connection(Sender, "server", 9000)
        transport.writelines([payload[:100_000], memoryview(payload)[100_000:200_000], bytearray(payload[200_000:])])
        transport.close()
        transport.write(b"ignored after close")
        await asyncio.sleep(60)
        assert isinstance(sender, Sender)
        return sender

    _, sender = world.run((world.server, server()), (world.client, client()))
    assert collector.data == payload
    assert collector.lost == [None]
    assert sender.lost == [None]
    assert sender.calls[0] == "pause"


def test_a_buffer_changed_before_it_was_sent_fails_the_run(world: World) -> None:
    async def client() -> None:
        await asyncio.sleep(1)
        transport, _ = await world.loop.create_connection(Sender, "server", 9000)
        arena = bytearray(5_000_000)
        transport.write(memoryview(arena))
        await asyncio.sleep(0)
        arena[4_999_999] = 1

    with pytest.raises(SimulationFailure, match="changed before it was sent"):
        world.run((world.server, echo_server()), (world.client, client()), (world.client, asyncio.sleep(100)))


def test_abort_resets_the_peer(world: World) -> None:
    collector = Collector()

    async def server() -> None:
        await world.loop.create_server(lambda: collector, None, 9000)

    async def client() -> Sender:
        await asyncio.sleep(1)
        transport, sender = await world.loop.create_connection(Sender, "server", 9000)
        transport.abort()
        await asyncio.sleep(1)
        assert isinstance(sender, Sender)
        return sender

    _, sender = world.run((world.server, server()), (world.client, client()))
    assert sender.lost == [None]
    assert isinstance(collector.lost[0], ConnectionResetError)


def test_a_dead_peer_ends_the_connection_and_a_new_incarnation_listens_again(world: World) -> None:
    async def client() -> bytes:
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("server", 9000)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("server", 9000)
        await asyncio.sleep(10)
        return await echo_client(b"again")

    async def chaos() -> None:
        await asyncio.sleep(5)
        world.loop.kill(world.server)
        await asyncio.sleep(5)
        world.loop.spawn(world.loop.start_node("server"), echo_server())

    world.loop.spawn(world.server, echo_server())
    assert world.run((world.client, client()), (world.loop.start_node("chaos"), chaos()))[0] == b"again"


def test_after_a_power_cut_the_host_is_silent_and_peers_find_out_late(world: World) -> None:
    async def client() -> float:
        await asyncio.sleep(1)
        reader, _writer = await asyncio.open_connection("server", 9000)
        world.loop.call_world(1, lambda: world.loop.kill(world.server, power_cut=True))
        before = world.loop.time()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        silent_s = world.loop.time() - before
        with pytest.raises(TimeoutError):
            await asyncio.open_connection("server", 9000)
        return silent_s

    world.loop.spawn(world.server, echo_server())
    assert 1 < world.run((world.client, client()))[0] <= 32


def test_a_one_way_partition_holds_bytes_until_healed(world: World) -> None:
    async def client() -> list[float]:
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("server", 9000)
        began = world.loop.time()
        world.network.block("server", "client")
        writer.write(b"ping")
        world.loop.call_world(10, world.network.heal, "server", "client")
        assert await reader.readexactly(4) == b"ping"
        healed = world.loop.time() - began
        world.network.block("client", "server")
        writer.write(b"lost")
        began = world.loop.time()
        with pytest.raises(TimeoutError):
            await reader.read(1)
        return [healed, world.loop.time() - began]

    _, (healed, gave_up) = world.run((world.server, echo_server()), (world.client, client()))
    assert 10 <= healed < 11
    assert gave_up == pytest.approx(30)


def test_a_reset_hits_in_the_middle_of_a_frame(world: World) -> None:
    async def client() -> None:
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("server", 9000)
        writer.write(bytes(5_000_000))
        world.loop.call_world(0.05, world.network.reset_one, "server")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(5_000_000)

    world.run((world.server, echo_server()), (world.client, client()))
    assert world.network.fired["network: reset"] == 1


def test_a_slow_reader_fills_the_window_and_pauses_the_writer(world: World) -> None:
    world.network.read_rate_bytes_per_s["server"] = 100_000

    async def client() -> list[str]:
        await asyncio.sleep(1)
        transport, sender = await world.loop.create_connection(Sender, "server", 9000)
        transport.write(bytes(3_000_000))
        await asyncio.sleep(5)
        assert isinstance(sender, Sender)
        assert sender.calls == ["pause"]
        assert transport.get_write_buffer_size() > 1_000_000
        await asyncio.sleep(60)
        return sender.calls

    assert world.run((world.server, echo_server()), (world.client, client()))[1] == ["pause", "resume"]
