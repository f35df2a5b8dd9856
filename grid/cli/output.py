"""Output that any terminal takes: other encodings, a closed terminal, a pipe that nobody reads."""

from __future__ import annotations

import codecs
import errno
import os
import sys
import unicodedata
from typing import IO, Any, cast

# Name of the way in which `str.encode` replaces what an encoding lacks.
PLAIN = "cnngrid-plain"
# In ASCII; letters lose their accents, and what has no likeness is written by its number.
REPLACEMENTS = {
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{BULLET}": "*",
}
# By Unicode's category: dashes and quotation marks.
KINDS = {"Pd": "-", "Pi": '"', "Pf": '"'}
# By the words of a line's name in a frame; its corners are a plus.
LINES = {"HORIZONTAL": "-", "VERTICAL": "|"}
# Errors that say that nobody reads any more: a pipe's end or the terminal is closed.
GONE = (errno.EPIPE, errno.EIO, errno.EBADF)


class Output:
    """A standard stream that goes on as if all were well when it can no longer be written.

    Nothing that is only shown may end a sweep. `problem` is set if the output is lost although
    somebody may want it, as on a full disk.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.problem: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        """Send what is buffered, and all that follows, nowhere."""
        if error.errno not in GONE:
            self.problem = error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def prepare_output() -> None:
    """Make the standard streams such that no write to them raises."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would be written to in its place
            os.open(os.devnull, os.O_RDONLY if name == "stdin" else os.O_WRONLY)
        stream = getattr(sys, name)
        if name == "stdin" or isinstance(stream, Output):
            continue
        if stream is None:
            stream = os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=PLAIN)
        setattr(sys, name, cast("IO[str]", Output(stream)))


def output_problem() -> OSError | None:
    """Return the error by which standard output was lost, None if it was not."""
    sys.stdout.flush()
    return getattr(sys.stdout, "problem", None)


def plain(text: str, encoding: str) -> str:
    """Return a text as an encoding can write it, so that columns are as wide as they are shown."""
    return text.encode(encoding, PLAIN).decode(encoding)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks; a handler for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_in_ascii, text)), error.end


def _in_ascii(letter: str) -> str:
    if known := REPLACEMENTS.get(letter) or KINDS.get(unicodedata.category(letter)):
        return known
    name = unicodedata.name(letter, "")
    if name.startswith("BOX DRAWINGS"):
        return LINES.get(name.split()[-1], "+")
    likeness = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return likeness or letter.encode("ascii", "backslashreplace").decode()


codecs.register_error(PLAIN, _replace)
