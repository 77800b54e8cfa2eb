"""Where the real services and client toolchains are found: environment variable, cache directory, then PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class NotInstalledError(Exception):
    """Something a test needs is not on this machine; the text says what and how to install it."""


def cache_dir() -> Path:
    """The directory for downloads and builds: `WEIR_TESTS_CACHE`, or `~/.cache/weir-tests`."""
    return Path(os.environ.get("WEIR_TESTS_CACHE") or Path.home() / ".cache" / "weir-tests")


def find_program(name: str, *, variable: str = "", cached: str = "", install: str = "") -> Path:
    """The executable `name`: the path in `variable`, `cached` under the cache directory, PATH or /usr/sbin.

    Raises NotInstalledError with `install` as the advice. A variable that points at nothing is an error, not a reason
    to look further.
    """
    if variable and os.environ.get(variable):
        given = Path(os.environ[variable])
        if not os.access(given, os.X_OK):
            raise NotInstalledError(f"{variable}={given} is not an executable file")
        return given
    if cached and os.access(cache_dir() / cached, os.X_OK):
        return cache_dir() / cached
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin")
    if found is None:
        hint = f"; install it with: {install}" if install else ""
        where = f" (or set {variable})" if variable else ""
        raise NotInstalledError(f"{name} is not installed{hint}{where}")
    return Path(found)


def find_directory(what: str, *, variable: str, cached: str, probe: str, install: str) -> Path:
    """The directory of `what` that holds a file matching the glob `probe`: `variable` first, then the cache."""
    given = os.environ.get(variable)
    path = Path(given) if given else cache_dir() / cached
    if not any(path.glob(probe)):
        raise NotInstalledError(f"{what} not found in {path}; install it with: {install} (or set {variable})")
    return path
