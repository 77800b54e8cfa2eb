"""How the broker's log lines look: standard logging, with the fields of `extra` as key=value or in a JSON object.

`log.info("opened", extra={"topic": name})` gives `... INFO weir opened topic=t`. `Sparingly` is for lines that one
client could cause at will.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from broker.settings.schema import LoggingSection

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure(settings: LoggingSection, stream: TextIO | None = None) -> None:
    """Send the records of all loggers to `stream` (default: standard error); replaces what was configured before."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    for noisy in ("botocore", "aiobotocore", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """What the caller passed in `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """`2026-01-31T10:00:00.000Z INFO weir.net message key=value`; one line unless there is a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        words = [_time_of(record), record.levelname, record.name, _one_line(record.getMessage())]
        words += [f"{name}={_quoted(value)}" for name, value in fields_of(record).items()]
        line = " ".join(words)
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, the fields, and `exception` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in fields_of(record).items():
            entry[name if name not in entry else f"field_{name}"] = value
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _quoted(value: object) -> str:
    text = _one_line(str(value))
    if text == "" or any(character in text for character in ' "='):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


class Sparingly:
    """Lets `burst` lines per `interval_s` through and counts the rest into the next one (field `suppressed`)."""

    def __init__(
        self, logger: logging.Logger, now_s: Callable[[], float], *, burst: int = 10, interval_s: float = 10.0
    ) -> None:
        self._logger = logger
        self._now_s = now_s
        self._burst = burst
        self._interval_s = interval_s
        self._began_s = float("-inf")
        self._written = 0
        self._suppressed = 0

    def log(self, level: int, message: str, fields: Mapping[str, object] | None = None) -> None:
        """Write the line, or count it."""
        now_s = self._now_s()
        if now_s - self._began_s >= self._interval_s:
            self._began_s, self._written = now_s, 0
        if self._written >= self._burst:
            self._suppressed += 1
            return
        self._written += 1
        extra = dict(fields or {})
        if self._suppressed:
            extra["suppressed"], self._suppressed = self._suppressed, 0
        self._logger.log(level, message, extra=extra)
