"""The cases, one file per API or concern; `load()` imports them all and `case` registers one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.parity import apis
from tests.parity.target import Target
from tests.parity.wire import Plain

Body = Callable[[Target, int], Plain]


@dataclass(frozen=True)
class Case:
    """One exchange at one version: `body` runs it on a broker and returns what was observed."""

    id: str
    version: int
    body: Body


REGISTRY: list[Case] = []


def case(api_key: int, versions: Iterable[int] | None = None) -> Callable[[Body], Body]:
    """Register the function for these versions of the API (default: every served one).

    The case's id is FILE.FUNCTION@VERSION. The function gets the broker and the version and returns the answers
    it observed, as a dict or list; it must do the same on any broker, whatever that answers.
    """

    def register(body: Body) -> Body:
        file = body.__module__.rsplit(".", 1)[1]
        chosen = apis.versions(api_key) if versions is None else versions
        REGISTRY.extend(Case(f"{file}.{body.__name__}@{version}", version, body) for version in chosen)
        return body

    return register


def ends(api_key: int, *extra: int) -> tuple[int, ...]:
    """The lowest and highest served version, and those named: where every version need not be sent."""
    low, high = apis.SERVED[api_key]
    return tuple(sorted({low, high, *extra}))


def load() -> list[Case]:
    """Every case of every file, in file order."""
    REGISTRY.clear()
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return list(REGISTRY)
