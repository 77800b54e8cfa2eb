"""`python -m benchmarks.verify`: `weir verify` from a checkout."""

from __future__ import annotations

from benchmarks.verify.cli import app

if __name__ == "__main__":
    app(prog_name="weir verify")
