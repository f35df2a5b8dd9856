"""Vega-Lite specifications as SVG, drawn in this process or, several at a time, in another one.

Run as a program: each line of standard input is a specification, each line of output but the first
an SVG, as JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import vl_convert


def to_svg(spec: dict[str, Any]) -> str:
    """Return the figure as SVG; its text does not depend on figures drawn before."""
    text = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite(spec))
    # Vega goes on counting gradients and clips from figure to figure.
    ids = dict.fromkeys(re.findall(r'\bid="((?:gradient_|clip)\d+)"', text))
    numbers = {name: f"{name.rstrip('0123456789')}{n}" for n, name in enumerate(ids)}
    return re.sub(
        r'(\bid="|url\(#)((?:gradient_|clip)\d+)(?=["\)])',
        lambda match: match[1] + numbers.get(match[2], match[2]),
        text,
    )


def vega_lite(spec: dict[str, Any]) -> str:
    """Return the version of Vega-Lite that a specification is written in: `6.1`."""
    match = re.search(r"/v(\d+\.\d+)", spec["$schema"])
    assert match, spec["$schema"]
    return match[1]


class SvgProcess:
    """A process that draws figures while the caller goes on.

    A figure that cannot be drawn is None: the drawing engine gives up on some that are too large,
    and may take its process with it.
    """

    def __init__(self) -> None:
        self._specs: list[dict[str, Any]] = []
        self._start()

    def _start(self) -> None:
        # Converting holds Python's lock, and the first figure costs half a second of preparation.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        # Both ends of the process block: it while nobody reads, we while it is busy.
        self._threads = ThreadPoolExecutor(2)
        assert self._process.stdout
        self._lines = self._threads.submit(list, self._process.stdout)

    def draw(self, spec: dict[str, Any]) -> None:
        """Queue a figure."""
        self._specs.append(spec)
        self._threads.submit(self._send, json.dumps(spec))

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")

    def drawings(self) -> list[str | None]:
        """Return every figure as SVG, in the order of `draw`."""
        drawn: list[str | None] = []
        while True:
            started, *more = self._answers()
            drawn += more
            if len(drawn) == len(self._specs):
                return drawn
            rest = self._specs[len(drawn) :]
            if not started:  # no process can be had
                return [*drawn, *map(svg_if_possible, rest)]
            drawn.append(None)  # at this one the process died
            self.end()
            self._start()
            self._specs = self._specs[: len(drawn)]
            for spec in rest[1:]:
                self.draw(spec)

    def _answers(self) -> list[Any]:
        """Return True and the figures that the process drew; False alone if it did not start."""
        self._threads.submit(self._close)
        lines = self._lines.result()
        self._threads.shutdown()
        self._process.wait()
        return [json.loads(line) for line in lines if line.endswith("\n")] or [False]

    def _close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._threads.shutdown()
        with suppress(OSError):  # what is left to be sent
            self._process.__exit__(None, None, None)


@contextmanager
def svg_process() -> Iterator[SvgProcess]:
    """Start a process that draws; if none can be had, figures are drawn in this one."""
    process = SvgProcess()
    try:
        yield process
    finally:
        process.end()


def svg_if_possible(spec: dict[str, Any]) -> str | None:
    """Return the figure as SVG, None if the drawing engine gives up on it."""
    try:
        return to_svg(spec)
    except ValueError:
        return None


def main() -> None:
    """Write True, then each figure of standard input once it is drawn; null if it cannot be."""
    print("true", flush=True)
    for line in sys.stdin:
        print(json.dumps(svg_if_possible(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
