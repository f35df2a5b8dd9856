"""The error for a combination of values that cannot be trained."""

from __future__ import annotations

from cnncore.config import TrialConfig
from grid.sweep.yaml_source import KeyPath


class ConfigProblem(Exception):
    """Reasons that a combination cannot be trained, each with the key of the sweep file.

    `config` is the combination's, if the code that it names can be tried in spite of them.
    """

    def __init__(
        self,
        path: KeyPath,
        text: str,
        *more: tuple[KeyPath, str],
        config: TrialConfig | None = None,
    ) -> None:
        self.reasons = ((path, text), *more)
        self.config = config
        super().__init__(text)
