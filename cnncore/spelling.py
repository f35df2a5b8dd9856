"""Names and values in messages: hints for misspelt names, values of a bounded length."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest_hint(name: object, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ` (closest: resnet18)`, or an empty string if no known name is similar.

    `cutoff`, in [0, 1], is the least similarity that counts, as in `difflib.get_close_matches`.
    """
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f" (closest: {close[0]})" if close else ""


def as_written(value: object, longest: int = 80) -> str:
    """Return the value for a message, as the sweep file writes it, in `longest` characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and abs(value) >= 10**longest:
        return f"a whole number of more than {longest} digits"
    return shortened(repr(value), longest)


def escaped(text: str) -> str:
    """Return the text with characters that cannot be shown written out, as `\\n`."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def shortened(text: str, longest: int = 200) -> str:
    """Return the text on one line, cut to `longest` characters."""
    text = escaped(text[: longest + 1])
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
