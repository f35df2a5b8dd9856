"""The error for a combination of values that cannot be trained."""

from __future__ import annotations

from grid.sweep.yaml_source import KeyPath


class ConfigProblem(Exception):
    """Reasons that a combination cannot be trained, each with the key of the sweep file."""

    def __init__(self, path: KeyPath, text: str, *more: tuple[KeyPath, str]) -> None:
        self.reasons = ((path, text), *more)
        super().__init__(text)
