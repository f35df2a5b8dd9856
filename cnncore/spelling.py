"""Hints for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest_hint(name: object, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ` (closest: resnet18)`, or an empty string if no known name is similar.

    `cutoff`, in [0, 1], is the least similarity that counts, as in `difflib.get_close_matches`.
    """
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f" (closest: {close[0]})" if close else ""
