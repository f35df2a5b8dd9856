"""Transforms of the user's own in a plan: all of them tried at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cnncore.config import OwnTransform, TrialConfig
from grid.code.sweep_code import SweepCode
from grid.plan.resolve import Resolver


class OwnTransforms:
    """The transforms of a sweep's configs, by name, options and the side of the stored images."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}

    def note(self, resolver: Resolver, config: TrialConfig, cell: Mapping[str, Any]) -> None:
        """Take the transforms of a config of a cell."""
        side = resolver.facts_of(config).image_size
        for part in config.augment:
            if isinstance(part, OwnTransform):
                key = (part.name, json.dumps(part.options), side)
                self._cells.setdefault(key, []).append(cell)

    def problems(self, code: SweepCode) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
        """Yield each problem with the cells that have it."""
        requests = [
            {"check": "transform", "name": name, "options": json.loads(options), "side": side}
            for name, options, side in self._cells
        ]
        for request, answer, cells in zip(
            requests, code.answers(requests), self._cells.values(), strict=True
        ):
            if answer["problem"]:
                name, problem = str(request["name"]), str(answer["problem"])
                yield problem if problem.startswith(name) else f"{name}: {problem}", cells
