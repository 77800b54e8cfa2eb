"""What may be compiled: modules that exist and never wait (see `pyproject.toml`)."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
_WAITING = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await, ast.Yield, ast.YieldFrom)


def test_no_module_that_is_compiled_has_a_coroutine_or_a_generator() -> None:
    """mypyc 2.4 makes a new one from one that has raised: another file's `finally` raised a stale error again."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    modules = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["include"]
    assert len(modules) == len(set(modules)) >= 10
    for module in modules:
        tree = ast.parse((ROOT / module.lstrip("/")).read_text())
        waiting = [f"{module}:{node.lineno}" for node in ast.walk(tree) if isinstance(node, _WAITING)]
        assert waiting == []
