"""Numbers as people read them. Pure."""

from __future__ import annotations


def rate(value: float) -> str:
    """Records per second."""
    if value >= 10_000_000:
        return f"{value / 1e6:.1f} M/s"
    return f"{value / 1000:,.0f} k/s" if value >= 10_000 else f"{value:,.0f}/s"


def megabytes(value: float) -> str:
    """Bytes per second in MB/s."""
    value /= 1e6
    return f"{value:,.0f} MB/s" if value >= 100 else f"{value:.1f} MB/s" if value >= 1 else f"{value:.3f} MB/s"


def size(value: float) -> str:
    """Bytes."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= factor:
            amount = value / factor
            return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:.1f} {unit}"
    return f"{value:.0f} B"


def ms(value: float) -> str:
    """Milliseconds."""
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def duration(seconds: float) -> str:
    """Seconds, or minutes when there are many."""
    return f"{seconds:.0f} s" if seconds < 180 else f"{seconds / 60:.0f} min"


def ratio(value: float) -> str:
    """A factor."""
    return f"{value:.0f}x" if value >= 100 else f"{value:.2f}x" if value < 10 else f"{value:.1f}x"
