"""The cells that a figure has room for: the leading ones, and a line that counts the others."""

from __future__ import annotations

from typing import TypeVar

Item = TypeVar("Item")

# More cannot be told apart, and the drawing engine takes minutes or gives up.
MOST_LINES = 40
MOST_BARS = 60
MOST_POINTS = 200
MOST_CONFIGS = 1_000


def leading_groups(groups: dict[str, list[Item]], most: int) -> dict[str, list[Item]]:
    """Return the first groups that have room; if the first has none, its first items."""
    kept: dict[str, list[Item]] = {}
    room = most
    for name, group in groups.items():
        if len(group) > room:
            break
        kept[name] = group
        room -= len(group)
    if groups and not kept:
        name, group = next(iter(groups.items()))
        kept[name] = group[:most]
    return kept


def others_note(shown: int, total: int, things: str = "cells", by: str = "test top-1") -> list[str]:
    """Return a line that counts what a figure leaves out; none if it shows all."""
    return [f"the best {shown:,} of {total:,} {things} by {by}"] if shown < total else []
