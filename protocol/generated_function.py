"""Python source that is put together line by line and compiled into one function."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any


class GeneratedFunction:
    """The lines and the global names of a function under construction.

    Its source is made from schemas only, never from input. It is kept where tracebacks and debuggers find it.
    """

    def __init__(self, signature: str, **names: Any) -> None:
        self._lines = [f"def {signature}:"]
        self._depth = 1
        self._names: dict[str, Any] = dict(names)

    def line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def indent(self) -> None:
        self._depth += 1

    def dedent(self) -> None:
        self._depth -= 1

    def bind(self, value: Any) -> str:
        """A global name for `value`."""
        name = f"_{len(self._names)}"
        self._names[name] = value
        return name

    def compile(self, title: str) -> Callable[..., Any]:
        source = "\n".join(self._lines) + "\n"
        filename = f"<{title}>"
        exec(compile(source, filename, "exec"), self._names)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        function: Callable[..., Any] = self._names[self._lines[0].removeprefix("def ").partition("(")[0]]
        return function
