"""A Vega-Lite specification as SVG, in this process or, many at a time, in one of its own.

As a program: each line of standard input is a specification, each line of output an SVG, as JSON.
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
    """The figure as SVG, the same text whatever was drawn before it in this process."""
    text = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite(spec))
    # Vega numbers gradients and clips on from figure to figure.
    ids = dict.fromkeys(re.findall(r'\bid="((?:gradient_|clip)\d+)"', text))
    numbers = {name: f"{name.rstrip('0123456789')}{n}" for n, name in enumerate(ids)}
    return re.sub(
        r'(\bid="|url\(#)((?:gradient_|clip)\d+)(?=["\)])',
        lambda found: found[1] + numbers.get(found[2], found[2]),
        text,
    )


def vega_lite(spec: dict[str, Any]) -> str:
    """The version of Vega-Lite that a specification is written in: `6.1`."""
    found = re.search(r"/v(\d+\.\d+)", spec["$schema"])
    assert found, spec["$schema"]
    return found[1]


class Draughtsman:
    """Draws figures while its owner does something else."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._specs: list[dict[str, Any]] = []
        # Handing over waits while the process is busy.
        self._courier = ThreadPoolExecutor(1)

    def draw(self, spec: dict[str, Any]) -> None:
        """Have a figure drawn."""
        self._specs.append(spec)
        self._courier.submit(self._send, json.dumps(spec))

    def _send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")

    def drawings(self) -> list[str]:
        """Every figure as SVG, in the order of `draw`."""
        self._courier.shutdown()
        said, _ = self._process.communicate()
        drawn = [json.loads(line) for line in said.splitlines()]
        return [*drawn, *map(to_svg, self._specs[len(drawn) :])]


@contextmanager
def draughtsman() -> Iterator[Draughtsman]:
    """A process that draws; figures that it leaves undrawn are drawn here."""
    # Converting holds Python's lock, and its first figure costs half a second of preparation.
    process = subprocess.Popen(
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    try:
        yield Draughtsman(process)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Draw what standard input says, to its end, then write everything."""
    drawn = [to_svg(json.loads(line)) for line in sys.stdin]
    for text in drawn:
        print(json.dumps(text))


if __name__ == "__main__":
    main()
