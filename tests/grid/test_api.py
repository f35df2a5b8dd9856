"""Wrong arguments from Python: refused as the command refuses them, before anything starts."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid import SweepSpec, make_plan, run_sweep
from grid.errors import GridError, SweepError

SPEC = SweepSpec(
    sweep="s",
    compare={"arch": ("mobilenet_small",)},
    fixed={"dataset": "digits", "image_size": 8, "epochs": 1, "optimizer": "sgd", "lr": 0.1},
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"retry": "failed"}, r"retry takes a list of states, such as \['failed'\]"),
        ({"retry": ["lost"]}, "retry: states are failed and diverged, got lost"),
        ({"on_error": "nope"}, "on_error must be 'continue' or 'stop', got 'nope'"),
        ({"slots": 0, "local": False}, "slots must be a whole number from 1, got 0"),
        ({"slots": True, "local": False}, "slots must be a whole number from 1, got True"),
        ({"slots": 2}, "leave --slots and --address out"),
        ({"changes": {"lr": True}}, r"changes\['lr'\]: must be a number, but got true"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    options = {"local": True, "results": tmp_path / "results", **options}
    with pytest.raises((GridError, ValueError), match=expected):
        run_sweep(SPEC, data_dir=tmp_path, quiet=True, **options)
    assert not (tmp_path / "results").exists()


def test_a_sweep_made_in_python_is_checked(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="seeds: has a seed twice"):
        make_plan(SPEC.model_copy(update={"seeds": (0, 0)}), data_dir=tmp_path)
    assert len(make_plan(SPEC, {"seeds": range(3)}, data_dir=tmp_path).trials) == 3


def test_what_this_machine_cannot_train_is_said_by_plan(
    cnngrid: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(SPEC.text)
    result = cnngrid("plan", "s.yaml", "--set", "batch_size=1000000000", "--set", "width=1000000")
    assert result.returncode == 2
    assert "cannot be trained on this machine" in result.stderr
