"""Applying a planted bug to the unmodified code, counting how often its path ran, and taking it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Planted:
    """The patches of one bug in this process. `times`: how often the wrong path was taken, in all runs so far."""

    def __init__(self) -> None:
        self.times = 0
        self._undo: list[tuple[Any, str, Any]] = []

    def ran(self) -> None:
        self.times += 1

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put `make(original)` in the place of `owner.name`. LookupError when the code to patch is not there."""
        if name not in vars(owner):
            raise LookupError(f"{owner!r} has no {name!r} of its own: the code has changed, so must the planted bug")
        original = vars(owner)[name]
        self._undo.append((owner, name, original))
        setattr(owner, name, make(original))

    def take_back(self) -> None:
        while self._undo:
            setattr(*self._undo.pop())
