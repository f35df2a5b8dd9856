"""Text for the terminal: `print` and consoles that show control characters as `\\x1b`.

Names, reasons and logs come from results folders and from code of others; a terminal obeys control
characters in them. Files keep the text as it is.
"""

from __future__ import annotations

import builtins
import logging
import os
import re
import stat
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

# Control characters but for tab and new line, marks that change the direction or end a line, and
# surrogates, which no terminal can be sent.
HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def shown(text: object) -> str:
    """Return text that a terminal may be sent: harmful characters as `\\x1b` or `\\u202e`."""
    return HARMFUL.sub(_escape, str(text))


def on_one_line(text: object) -> str:
    """Return `shown` text without line breaks, for a line that has more in it."""
    return shown(text).replace("\n", "\\n")


def _escape(match: re.Match[str]) -> str:
    number = ord(match.group())
    # From DEL on as in JSON, whose texts hold these characters as they are.
    return f"\\x{number:02x}" if number < 0x20 else f"\\u{number:04x}"


def print(
    *values: object, file: TextIO | None = None, end: str = "\n", flush: bool = False
) -> None:
    """Print values like the builtin, their text as `shown`."""
    builtins.print(*map(shown, values), file=file, end=end, flush=flush)


def print_data(text: str) -> None:
    """Print a table for programs; a file that standard output was sent to keeps it unchanged."""
    end = "" if text.endswith("\n") else "\n"
    try:
        into_file = stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except OSError:  # no file at all, as in a notebook
        into_file = False
    (builtins.print if into_file else print)(text, end=end)


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console of rich's on standard output or error that prints text as `shown`."""
    from rich.console import Console
    from rich.segment import Segment

    class ShownConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else shown(text), style, control)

    # The stream itself, because rich must know its encoding.
    return ShownConsole(file=sys.stderr if stderr else sys.stdout, quiet=quiet)


class _ShownFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def show_log_messages() -> None:
    """Print messages of `logging` as `shown`, if no handler was set up for them."""
    if logging.lastResort:
        logging.lastResort.setFormatter(_ShownFormatter())


def print_warning(message: Any, *args: Any, **kwargs: Any) -> None:
    """Print a warning on one line; a replacement of `warnings.showwarning`."""
    print(f"cnngrid: {on_one_line(message)}", file=sys.stderr)
