"""Trials that raise or diverge: their outcome, and the rest of the sweep."""

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from grid.phrases import counted
from tests.small_sweeps import trial_rows

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]


NETWORKS = """
import torch
from torch import nn

class Fragile(nn.Module):
    def __init__(self, classes, how):
        super().__init__()
        self.how, self.linear = how, nn.Linear(3 * 8 * 8, classes)

    def forward(self, x):
        if self.how == "raises" and len(x) > 2:  # not when the plan tries it
            raise RuntimeError("the hidden <b>flaw</b>\\nsecond line")
        many = len(x) > 2
        x = self.linear(x.flatten(1))
        if self.how == "widens" and many and not self.training:
            return torch.cat([x, x], dim=1)
        return x * float("nan") if self.how == "nan" else x

def fine(classes): return Fragile(classes, "fine")
def raises(classes): return Fragile(classes, "raises")
def widens(classes): return Fragile(classes, "widens")
def nan(classes): return Fragile(classes, "nan")
"""


def fragile(
    write_sweep: Write, tmp_path: Path, *names: str, seeds: Sequence[int] = (0,), **more: Any
) -> Path:
    (tmp_path / "fragile_networks.py").write_text(NETWORKS)
    archs = [f"fragile_networks:{name}" for name in names]
    fixed = {"image_size": 8, "lr": 0.01, "augment": []}
    return write_sweep(compare={"arch": archs}, fixed=fixed, seeds=list(seeds), **more)


@pytest.mark.slow
def test_a_trial_that_raises_fails_a_nan_diverges_and_the_rest_goes_on(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = fragile(write_sweep, tmp_path, "raises", "widens", "nan", "fine")
    result = cnngrid("run", sweep, "--local")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "failed: fragile_networks:raises" in result.stderr
    assert "diverged: fragile_networks:nan" in result.stderr
    trials = {row.arch.partition(":")[2]: row for row in trial_rows(tmp_path / "results" / "small")}
    assert {name: row.state for name, row in trials.items()} == {
        "raises": "failed", "widens": "failed", "nan": "diverged", "fine": "complete"
    }  # fmt: skip
    assert trials["raises"].reason == "RuntimeError: the hidden <b>flaw</b>"
    assert trials["widens"].reason.endswith(", 10), but got the shape (144, 20)")
    assert trials["widens"].test_top1 is None
    assert trials["nan"].reason == "the loss is not finite in epoch 1"
    assert trials["nan"].test_top1 is None
    log = tmp_path / "results" / "small" / "logs" / f"{trials['raises'].trial_id}.log"
    assert "fragile_networks.py" in log.read_text()

    again = cnngrid("run", sweep, "--local")
    assert again.returncode == 1
    assert "nothing to do" in again.stdout
    for words, ran in (("--retry",), 2), (("--retry", "failed"), 2), (("--retry", "all"), 3):
        retried = cnngrid("run", sweep, "--local", *words)
        assert f"{counted(ran, 'trial')} in" in retried.stdout
        assert retried.returncode == 1

    ok = cnngrid("run", fragile(write_sweep, tmp_path, "nan", "fine"), "--local")
    assert ok.returncode == 0  # the failed one left the plan; a diverged one is an answer


@pytest.mark.slow
def test_a_cell_that_fails_in_the_same_way_is_given_up_and_the_others_go_on(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = fragile(write_sweep, tmp_path, "raises", "fine", seeds=[0, 1, 2, 3, 4])
    result = cnngrid("run", sweep, "--local")
    assert result.returncode == 1
    assert "raises: given up, 3 trials in a row failed at their start: RuntimeError: the hid" in (
        " ".join(result.stderr.split())
    )
    states = Counter(
        (row.arch[-4:], row.state) for row in trial_rows(tmp_path / "results" / "small")
    )
    assert states == {("ises", "failed"): 3, ("fine", "complete"): 5}
    assert "2 not run" in result.stdout


def test_on_error_stop_ends_the_sweep_with_the_first_failure(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    sweep = fragile(write_sweep, tmp_path, "raises", "fine")
    result = cnngrid("run", sweep, "--local", "--on-error", "stop")
    assert result.returncode == 1
    assert "stopping after a failed trial (--on-error stop)" in result.stderr
    (row,) = trial_rows(tmp_path / "results" / "small")
    assert row.state == "failed"
    assert "1 not run" in result.stdout


def test_debug_runs_one_trial_and_stores_nothing(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    result = cnngrid("debug", write_sweep(), "--trial", "1", "--steps", "5")
    assert result.returncode == 0, result.stderr
    assert "epoch 1 step 2" in result.stdout
    assert "epoch 1/3: train loss" in result.stdout
    assert not (tmp_path / "results").exists()
    assert cnngrid("debug", write_sweep(), "--trial", "99").returncode == 2
    raising = cnngrid("debug", fragile(write_sweep, tmp_path, "raises"))
    assert raising.returncode == 1
    assert "fragile_networks.py" in raising.stderr
