"""Log lines: one line each, fields quoted, JSON that parses, and no client can flood them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from broker.logging import Sparingly, configure
from broker.settings import settings_of


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure(settings_of({"logging.format": form, "logging.level": level}).logging, stream)
    return stream


def test_text_lines() -> None:
    stream = written("text")
    log = logging.getLogger("weir.x")
    log.info("opened %s", "a\nb", extra={"topic": "t", "reason": 'say "no"', "empty": "", "n": 3})
    log.debug("unseen")
    (line,) = stream.getvalue().splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert len(time) == 24
    assert rest == 'INFO weir.x opened a\\nb topic=t reason="say \\"no\\"" empty="" n=3'


def test_json_lines() -> None:
    stream = written("json", "debug")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("weir").exception("failed", extra={"level": "mine", "path": io.StringIO})
    entry = json.loads(stream.getvalue())
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "weir", "failed")
    assert entry["field_level"] == "mine"
    assert "ValueError: bad" in entry["exception"]


def test_sparing_lines_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    now_s = [0.0]
    log = Sparingly(logging.getLogger("weir.s"), lambda: now_s[0], burst=2, interval_s=10)
    with caplog.at_level(logging.WARNING, "weir.s"):
        for number in range(5):
            log.log(logging.WARNING, "refused", {"n": number})
        now_s[0] = 10.0
        log.log(logging.WARNING, "refused")
    assert [(vars(each).get("n"), vars(each).get("suppressed")) for each in caplog.records] == [
        (0, None),
        (1, None),
        (None, 3),
    ]
