"""What may be compiled: modules that never wait (see `pyproject.toml`)."""

from __future__ import annotations

import ast
import importlib
import os
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["include"]
_WAITING = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await, ast.Yield, ast.YieldFrom)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_that_is_compiled_has_a_coroutine_or_a_generator(module: str) -> None:
    """mypyc 2.4 makes a new one from one that has raised: the `finally` of another call raised the old error again."""
    tree = ast.parse((ROOT / module.lstrip("/")).read_text())
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, _WAITING)] == []


@pytest.mark.skipif("EXPECT_COMPILED" not in os.environ, reason="the source is tested, not what is compiled from it")
def test_what_is_tested_is_compiled() -> None:
    names = [module.removeprefix("/").removesuffix(".py").replace("/", ".") for module in MODULES]
    assert [name for name in names if not str(importlib.import_module(name).__file__).endswith(".so")] == []
