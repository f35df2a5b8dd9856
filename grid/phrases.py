"""Counts, sizes, durations and validations as text: `2 trials`, `4.7 MiB`, `3 min 20 s`."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_bytes(count: float) -> str:
    """Return a size as text: `4.7 MiB`, `1.5 GiB`."""
    mib = count / 2**20
    return f"{mib:,.1f} MiB" if mib < 102.4 else f"{mib / 1024:,.1f} GiB"


def validation_text(loss: float | None, top1: float | None) -> str:
    """Return an epoch's validation loss and accuracy, to be followed by more; "" without them."""
    return "" if loss is None or top1 is None else f"val loss {loss:.4f}, val top-1 {top1:.4f}, "


def format_s(seconds: float) -> str:
    """Return a duration as text: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
