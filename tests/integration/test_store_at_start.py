"""A broker starts only on a store that can carry what is promised; else it says why and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from typing_extensions import Buffer
from werkzeug.serving import make_server

from broker import adapters
from broker.app import Broker
from s3stream.errors import Invalid, OutcomeUnknown, Retry
from s3stream.ports import ObjectInfo
from s3stream.stores.memory import MemoryObjectStore
from tests.services import StartError, WeirProcess

CREDENTIALS = {"store.s3.access.key.id": "test", "store.s3.secret.access.key": "testtest"}


class Closing(MemoryObjectStore):
    closed = False

    async def close(self) -> None:
        self.closed = True
        await super().close()


class Stale(Closing):
    """An overwritten object reads as it was."""

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        if if_absent or key not in self._objects:
            await super().put(key, body, if_absent=if_absent)


class Short(Closing):
    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        return (await super().get(key, start, end))[:-1]


class Forgetful(Closing):
    """A listing lacks the newest key."""

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        async for page in super().list(prefix, start_after):
            yield page[1:]


class Undead(Closing):
    async def delete(self, keys: Sequence[str]) -> None:
        pass


class Lossy(Closing):
    """Says that it has stored, and has not."""

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        pass


class Busy(Closing):
    """503 to the first `left` writes."""

    left = 1000

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        self.left -= 1
        if self.left >= 0:
            raise OutcomeUnknown("InternalError") if self.left % 2 else Retry("SlowDown")
        await super().put(key, body, if_absent=if_absent)


class Hanging(Closing):
    """Opens, and then answers nothing."""

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        await asyncio.sleep(3600)

    async def delete(self, keys: Sequence[str]) -> None:
        await asyncio.sleep(3600)


def settings(directory: Path, **more: object) -> dict[str, object]:
    given = {name.replace("_", "."): value for name, value in more.items()}
    return {"data.dir": str(directory), "listeners": "PLAINTEXT://127.0.0.1:0", "http.port": -1, **given}


def opens(monkeypatch: pytest.MonkeyPatch, store: Closing) -> None:
    async def open_store(_url: str, _settings: object, *, ask: bool = True) -> Closing:
        return store

    monkeypatch.setattr(adapters, "open_store", open_store)


@pytest.mark.parametrize(
    ("store", "reason"),
    [
        (Stale(), "an overwritten object still reads as the old one"),
        (Short(), "an object of 21 bytes reads back as 20 other bytes"),
        (Forgetful(), "a listing right after two PUTs shows"),
        (Undead(), "an object is still there right after its DELETE"),
        (Lossy(), "an object is missing right after its PUT"),
    ],
)
async def test_a_bucket_that_lies_is_refused_with_the_reason(
    store: Closing, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens(monkeypatch, store)
    with pytest.raises(Invalid, match=f"this object store cannot be used: .*{reason}"):
        await Broker(settings(tmp_path, store_url="s3://weir")).start()
    assert store.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}
    honest = Closing()
    opens(monkeypatch, honest)
    async with Broker(settings(tmp_path, store_url="s3://weir")):  # nothing of the first start is in the way
        assert not [key for key in honest._objects if key.startswith("probe/")]
    assert honest.closed


async def test_a_busy_bucket_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Busy()
    store.left = 2
    opens(monkeypatch, store)
    async with Broker(settings(tmp_path, store_url="s3://weir")):
        pass
    store = Busy()
    opens(monkeypatch, store)
    with pytest.raises(Retry, match=r"not fit to start on: (SlowDown|InternalError)"):
        await Broker(settings(tmp_path / "new", store_url="s3://weir")).start()
    assert store.closed


async def test_a_bucket_that_hangs_at_the_probe_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Hanging()
    opens(monkeypatch, store)
    with pytest.raises(Retry, match=r"s3://weir/ stopped answering at its probe, within 0.3 s"):
        await Broker(settings(tmp_path, store_url="s3://weir", store_request_timeout_ms=100)).start()
    assert store.closed


async def test_folders_and_memory_are_not_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens(monkeypatch, Lossy())
    async with Broker(settings(tmp_path)):
        pass


@contextlib.contextmanager
def s3_without_listings() -> Iterator[str]:
    """The address of moto with a bucket `weir` whose listings are always empty."""
    honest: Any = DomainDispatcherApplication(create_backend_app)

    def lying(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if "list-type=2" in environ.get("QUERY_STRING", ""):
            start_response("200 OK", [("Content-Type", "application/xml")])
            return [b"<ListBucketResult><Name>weir</Name><IsTruncated>false</IsTruncated></ListBucketResult>"]
        return honest(environ, start_response)

    server = make_server("127.0.0.1", 0, lying, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refused_start(directory: Path, endpoint: str, url: str = "s3://weir", timeout_ms: int = 5000) -> tuple[str, float]:
    """The output of a broker process that must end with 1 and without a traceback, and the seconds it took."""
    more = {"store.url": url, "store.s3.endpoint": endpoint, "store.request.timeout.ms": str(timeout_ms), **CREDENTIALS}
    process = WeirProcess(directory, settings=more)
    started = time.monotonic()
    with pytest.raises(StartError, match="ended with 1 "):
        process.start()
    output = process.log.read_text()
    assert "Traceback" not in output, output
    return output, time.monotonic() - started


def test_a_lying_s3_server_ends_the_process_with_1(tmp_path: Path) -> None:
    with s3_without_listings() as endpoint:
        output, _ = refused_start(tmp_path, endpoint, "s3://weir?create=true", timeout_ms=20_000)
    assert "cannot start: this object store cannot be used: a listing right after two PUTs shows []" in output


def test_an_unreachable_store_ends_the_process_with_1(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        output, _ = refused_start(tmp_path, endpoint)
    assert "cannot start: bucket weir: Could not connect to the endpoint URL" in output


def test_a_store_that_accepts_and_never_answers_ends_the_process_in_time(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        output, seconds = refused_start(tmp_path, endpoint, timeout_ms=1000)
    assert f"cannot start: bucket weir: {endpoint} gave no answer within 1 s" in output
    assert seconds < 30, "the process's own start included"
