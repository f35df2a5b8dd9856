"""The images that a plan trains on, with epochs of whole passes and of some steps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from grid import load_sweep, make_plan
from grid.cost.estimate import estimate


@pytest.mark.parametrize(
    ("keys", "images"),
    [
        ({}, 2 * 3 * 96),
        # Passes of 3 steps: 40, 40 and 16 images; 6 steps are two passes.
        ({"steps_per_epoch": 2, "batch_size": 40}, 2 * (96 + 96)),
        ({"steps_per_epoch": 4, "batch_size": 40}, 2 * 4 * 96),
        ({"val_fraction": 0, "select": "last", "limit_train": None}, 2 * 3 * 1438),
    ],
)
def test_training_images_are_those_of_all_epochs(
    keys: dict[str, object], images: int, write_sweep: Callable[..., Path], data_dir: Path
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.1, **keys})
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    cost = estimate(plan, sweep.parent / "results", data_dir)
    assert (cost.epochs, cost.training_images) == (6, images)
