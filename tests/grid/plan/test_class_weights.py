"""Weights of classes in a plan: checked against the classes, whatever their values are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grid import make_plan
from grid.errors import SweepError
from grid.sweep.load import parse_sweep

SWEEP = """
sweep: s
compare: {{arch: [cnn3]}}
fixed: {{dataset: digits, image_size: 32, optimizer: sgd, lr: 0.1, epochs: 1, class_weights: {}}}
"""


def weights(text: str, data_dir: Path) -> Any:
    plan = make_plan(parse_sweep(SWEEP.format(text), "s.yaml"), data_dir=data_dir)
    return plan.trials[0].config.class_weights


def test_equal_weights_change_nothing(tmp_path: Path) -> None:
    assert weights(str([2] * 10), tmp_path) is None
    assert weights(str([2] * 9 + [1]), tmp_path) == (2.0,) * 9 + (1.0,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[2, 2]", "one for each of the 10 classes"),
        ("{'3': 2}", "no weight of 0, 1, 2, 4"),
        ("{x: 2}", "there is no class 'x'"),
    ],
)
def test_weights_that_are_not_the_classes_are_refused(
    text: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(SweepError, match=problem):
        weights(text, tmp_path)
