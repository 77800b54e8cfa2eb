"""`python -m benchmarks.bench` is `weir bench`."""

from __future__ import annotations

if __name__ == "__main__":  # client processes load this module, too, and need none of the commands
    from benchmarks.bench.cli import app

    app(prog_name="weir bench")
