"""`python -m benchmarks.bench` is `weir bench`."""

from __future__ import annotations

from benchmarks.bench.cli import app

if __name__ == "__main__":
    app(prog_name="weir bench")
