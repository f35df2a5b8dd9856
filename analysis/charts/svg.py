"""Vega-Lite specifications as SVG, drawn in this process or, several at a time, in another one.

Run as a program: each line of standard input is a specification, each line of output an SVG, as
JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
    """A process that draws figures while the caller goes on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._specs: list[dict[str, Any]] = []
        # Writing to the process blocks while it is busy.
        self._sender = ThreadPoolExecutor(1)

    def draw(self, spec: dict[str, Any]) -> None:
        """Queue a figure."""
        self._specs.append(spec)
        self._sender.submit(self._send, json.dumps(spec))

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")

    def drawings(self) -> list[str]:
        """Return every figure as SVG, in the order of `draw`."""
        self._sender.shutdown()
        output, _ = self._process.communicate()
        drawn = [json.loads(line) for line in output.splitlines()]
        return [*drawn, *map(to_svg, self._specs[len(drawn) :])]


@contextmanager
def svg_process() -> Iterator[SvgProcess]:
    """Start a process that draws; if it dies, the rest of the figures is drawn in this process."""
    # Converting holds Python's lock, and the first figure costs half a second of preparation.
    process = subprocess.Popen(
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    try:
        yield SvgProcess(process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Draw every specification of standard input, then write all figures."""
    drawn = [to_svg(json.loads(line)) for line in sys.stdin]
    for text in drawn:
        print(json.dumps(text))


if __name__ == "__main__":
    main()
