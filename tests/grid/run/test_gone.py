"""Results folders and modules that are deleted, moved or renamed while a sweep runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid.store.folder import Store
from tests.small_sweeps import trial_rows

Command = Callable[..., subprocess.CompletedProcess[str]]

# A network that does something to its surroundings in its first step, not when the plan tries it.
NETWORK = """
import shutil
from pathlib import Path
from torch import nn

class Network(nn.Sequential):
    def forward(self, images):
        if self.training and len(images) > 2 and Path("{first}").exists():
            Path("{first}").unlink()
            {deed}
        return super().forward(images)

def network(classes):
    return Network(nn.Flatten(), nn.Linear(192, classes))
"""


@pytest.fixture
def run(
    write_sweep: Callable[..., Path], cnngrid_process: Command, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a sweep of two networks; the first one does a deed."""

    def call(deed: str, *words: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "early.py").write_text(NETWORK.format(deed=deed, first=tmp_path / "first"))
        (tmp_path / "later.py").write_text(NETWORK.format(deed="pass", first=tmp_path / "never"))
        (tmp_path / "first").touch()
        changes: dict[str, Any] = {"compare": {"arch": ["early:network", "later:network"]}}
        changes["fixed"] = {"lr": 0.1, "image_size": 8, "epochs": 2}
        return cnngrid_process("run", write_sweep(seeds=[0], **changes), *words)

    return call


@pytest.mark.parametrize(
    "deed",
    [
        pytest.param('Path("results/small").rename("elsewhere")', marks=pytest.mark.soak),
        'shutil.rmtree("results/small"); Path("results/small").mkdir()',
    ],
)
def test_a_results_folder_that_goes_away_is_not_made_again(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, deed: str
) -> None:
    result = run(deed, "--local")
    assert result.returncode == 1, result.stderr
    assert "results/small: the results folder is gone" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "results").glob("small/*"))
    if (tmp_path / "elsewhere").exists():
        (tmp_path / "elsewhere").rename(tmp_path / "results" / "small")
        assert run("pass", "--local").returncode == 0
        rows = trial_rows(tmp_path / "results" / "small")
        assert [row.state for row in rows] == ["complete"] * 2


def test_a_module_that_goes_away_changes_nothing(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    result = run('Path("later.py").rename("renamed.py")', "--local")
    assert result.returncode == 0, result.stderr
    states = [row.state for row in Store(tmp_path / "results" / "small").finished().values()]
    assert states == ["complete"] * 2


@pytest.mark.soak
def test_stored_code_that_goes_away_ends_the_sweep_and_fails_no_trial(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    result = run('shutil.rmtree("results/small/code")', "--local")
    assert result.returncode == 1, result.stderr
    assert "that its trials run is gone; put it back" in result.stderr
    states = [row.state for row in Store(tmp_path / "results" / "small").finished().values()]
    assert states == ["complete"]
    assert run("pass", "--local").returncode == 0


@pytest.mark.soak
def test_ray_processes_say_it_too(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    result = run(f'shutil.rmtree("{tmp_path}/results")', "--slots", "1")
    assert result.returncode == 1, result.stderr
    assert "the results folder" in result.stderr
    assert "is gone" in result.stderr
