"""The user's own code in sweeps: edits before, between and in the middle of runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grid.store.folder import Store
from tests.small_sweeps import metrics, trial_rows

Command = Callable[..., subprocess.CompletedProcess[str]]

NETS = """
from torch import nn
from layers import Scaled

def tiny(classes):
    return nn.Sequential(nn.Flatten(), Scaled(), nn.Linear(192, classes))

def plain(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))
"""
LAYERS = """
from torch import nn
from numbers_of_mine import factor

class Scaled(nn.Module):
    def forward(self, images):
        return factor() * images
"""
NUMBERS = """
def factor():
    return 2.0
"""
FIXED = {"lr": 0.01, "image_size": 8, "epochs": 2}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write two networks; `tiny` depends on a file two imports away."""
    for name, text in (("nets", NETS), ("layers", LAYERS), ("numbers_of_mine", NUMBERS)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@pytest.fixture
def sweep(files: Path, write_sweep: Callable[..., Path]) -> Path:
    """Write a sweep of both networks."""
    compare = {"arch": ["nets:tiny", "nets:plain"]}
    return write_sweep(compare=compare, fixed=FIXED, seeds=[0])


def edit(file: Path, old: str, new: str) -> None:
    """Replace text in a file."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def ids(results: Path) -> dict[str, str]:
    """Return the id of the newest trial of each network."""
    return {row.arch: row.trial_id for row in trial_rows(results)}


@pytest.mark.slow
def test_an_edit_trains_again_exactly_what_it_touches(
    sweep: Path, files: Path, cnngrid: Command
) -> None:
    results = files / "results" / "small"
    assert cnngrid("run", sweep, "--local").returncode == 0
    first = ids(results)
    rows = {row.arch: row for row in trial_rows(results)}
    versions = json.loads(rows["nets:tiny"].code)
    assert list(versions) == ["nets:tiny"]
    assert json.loads(rows["nets:tiny"].config)["code_fingerprint"] == versions["nets:tiny"]
    stored = results / "code" / rows["nets:tiny"].code_folder
    assert {path.name for path in stored.glob("*.py")} == {
        "nets.py", "layers.py", "numbers_of_mine.py"
    }  # fmt: skip

    edit(files / "numbers_of_mine.py", "return 2.0", "return 2.0  # twice")
    edit(
        files / "nets.py",
        "def plain",
        "def another(classes):\n    return plain(classes)\n\ndef plain",
    )
    done = cnngrid("run", sweep, "--local")
    assert "nothing to do" in done.stdout
    assert "changed" not in done.stderr

    edit(files / "numbers_of_mine.py", "return 2.0", "return 3.0")
    plan = cnngrid("plan", sweep)
    words = "numbers_of_mine.py was changed: 1 finished trial ran earlier code of nets:tiny"
    assert words in " ".join(plan.stdout.split())
    assert "2 cells, 2 trials, 1 of them to run" in plan.stdout
    done = cnngrid("run", sweep, "--local")
    assert words in " ".join(done.stderr.split())
    assert "1 trial in" in done.stdout
    second = ids(results)
    assert second["nets:plain"] == first["nets:plain"]
    assert second["nets:tiny"] != first["nets:tiny"]
    assert len(Store(results).finished()) == 3

    # The earlier version stands beside today's, from the store, without being trained again.
    digits = versions["nets:tiny"][:4]
    text = sweep.read_text().replace('"nets:plain"', f'"nets:tiny@{digits}"')
    sweep.write_text(text)
    done = cnngrid("run", sweep, "--local")
    assert "nothing to do" in done.stdout
    sweep.write_text(text.replace('"epochs": 2', '"epochs": 1'))
    assert cnngrid("run", sweep, "--local").returncode == 0
    table = cnngrid("table", results, "comparison", "--format", "csv").stdout
    assert f"nets:tiny@{digits}" in table
    shown = cnngrid("code", results, first["nets:tiny"], "--diff", second["nets:tiny"]).stdout
    assert "-    return 2.0\n+    return 3.0  # twice\n" in shown
    sweep.write_text(text.replace(f"@{digits}", "@0000"))
    refused = cnngrid("plan", sweep)
    assert refused.returncode == 2
    assert "nets:tiny@0000: no such version; the results folder has nets:tiny@" in refused.stderr


@pytest.mark.slow
def test_an_edit_that_changes_no_result_can_be_vouched_for(
    sweep: Path, files: Path, cnngrid: Command
) -> None:
    results = files / "results" / "small"
    assert cnngrid("run", sweep, "--local").returncode == 0
    before = ids(results)
    edit(files / "numbers_of_mine.py", "return 2.0", "return 4.0 / 2")
    done = cnngrid("run", sweep, "--local", "--same-code")
    assert "nothing to do" in done.stdout
    assert "--same-code: code" in done.stderr
    assert "nothing to do" in cnngrid("run", sweep, "--local").stdout  # it holds from now on
    sweep.write_text(sweep.read_text().replace('"seeds": [\n  0\n ]', '"seeds": [0, 1]'))
    done = cnngrid("run", sweep, "--local")
    assert "2 trials in" in done.stdout, done.stderr
    rows = [row for row in trial_rows(results) if row.arch == "nets:tiny"]
    assert len({row.config_id for row in rows}) == 1
    assert len({row.code for row in rows}) == 2
    assert before["nets:tiny"] in {row.trial_id for row in rows}
    table = " ".join(cnngrid("table", results, "comparison").stdout.split())
    assert "nets:tiny: trials ran 2 versions of its code" in table


EDITING = """
from pathlib import Path
from torch import nn
from layers import Scaled

class Editing(nn.Sequential):
    def forward(self, images):
        if self.training and len(images) > 2:
            for name in ("layers.py", "numbers_of_mine.py"):
                Path(__file__).with_name(name).write_text("def factor(): return 1 / 0\\n")
        return super().forward(images)

def tiny(classes):
    return Editing(nn.Flatten(), Scaled(), nn.Linear(192, classes))
"""


@pytest.mark.parametrize(
    "how", [("--local",), pytest.param(("--slots", "1"), marks=[pytest.mark.ray, pytest.mark.soak])]
)
@pytest.mark.slow
def test_an_edit_in_the_middle_of_a_sweep_changes_no_number(
    files: Path, write_sweep: Callable[..., Path], cnngrid_process: Command, how: tuple[str, ...]
) -> None:
    (files / "nets.py").write_text(EDITING)
    (files / "nets_quiet.py").write_text(EDITING.replace("len(images) > 2", "False"))
    for name in ("nets", "nets_quiet"):
        for file, text in (("layers", LAYERS), ("numbers_of_mine", NUMBERS)):
            (files / f"{file}.py").write_text(text)
        sweep = write_sweep(
            sweep=name.replace("_", "-"),
            compare={"arch": [f"{name}:tiny"], "weight_decay": [0.0, 0.1]},
            fixed=FIXED,
            seeds=[0],
        )
        done = cnngrid_process("run", sweep, *how)
        assert done.returncode == 0, done.stderr
    assert (files / "layers.py").read_text() == LAYERS
    tables = [metrics(files / "results" / name)["epochs"] for name in ("nets", "nets-quiet")]
    lengths = [[row["val_loss"] for row in table] for table in tables]
    assert sorted(lengths[0]) == sorted(lengths[1])
    assert len(lengths[0]) == 4


@pytest.mark.slow
def test_suggestions_made_under_other_code_are_neither_told_nor_finished(
    files: Path, write_sweep: Callable[..., Path], cnngrid: Command
) -> None:
    changes: dict[str, Any] = {
        "compare": {"arch": ["nets:tiny"]},
        "tune": {"trials": 3, "sampler": "tpe", "axes": {"lr": {"log_uniform": [0.001, 0.1]}}},
        "fixed": {"image_size": 8, "epochs": 1},
        "seeds": [0],
    }
    sweep = write_sweep(**changes)
    results = files / "results" / "small"
    assert cnngrid("run", sweep, "--local").returncode == 0
    before = Store(results).asked()
    edit(files / "numbers_of_mine.py", "2.0", "3.0")
    done = cnngrid("run", sweep, "--local")
    assert "3 trials in" in done.stdout, done.stderr
    after = [row for row in Store(results).asked() if row not in before]
    assert len(after) == 3
    assert {row["cell_id"] for row in after}.isdisjoint(row["cell_id"] for row in before)
    known = {trial for row in before for trial in row["trial_ids"]}
    assert not known & {trial for row in after for trial in row["trial_ids"]}
    assert not json.loads(after[0]["told"])


def test_code_that_was_stored_for_a_job_runs_whatever_the_files_are_now(
    sweep: Path, files: Path, cnngrid: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grid.cli.options import plan_sweep
    from grid.code.stored import store_code

    monkeypatch.chdir(files)
    _, plan = plan_sweep(str(sweep), None, None, False)
    assert plan.sources is not None
    folder = store_code(Store(files / "results" / "small"), plan.sources)
    for name in ("nets", "layers", "numbers_of_mine"):
        (files / f"{name}.py").unlink()
    done = cnngrid("run", sweep, "--local", "--code", folder)
    assert done.returncode == 0, done.stderr
    assert {row.trial_id for row in trial_rows(files / "results" / "small")} == {
        trial.trial_id for trial in plan.trials
    }


SHARING = """
import functools
import torch
from torch import nn

HEAD = nn.Linear(192, 10)
DRAWN = torch.randn(10, 192)

@functools.lru_cache
def cached(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))

def shared(classes):
    return nn.Sequential(nn.Flatten(), HEAD)

def drawn(classes):
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, classes))
    with torch.no_grad():
        network[1].weight.copy_(DRAWN)
    return network
"""


@pytest.mark.slow
def test_nothing_that_a_module_keeps_goes_from_trial_to_trial(
    files: Path, write_sweep: Callable[..., Path], cnngrid: Command
) -> None:
    (files / "sharing.py").write_text(SHARING)
    compare = {"arch": ["sharing:cached", "sharing:shared", "sharing:drawn"]}
    found = []
    for name, seeds in (("both", [0, 1]), ("alone", [1])):
        sweep = write_sweep(sweep=name, compare=compare, fixed=FIXED, seeds=seeds)
        assert cnngrid("run", sweep, "--local").returncode == 0
        rows = trial_rows(files / "results" / name)
        found.append({row.trial_id: row.val_loss for row in rows if row.seed == 1})
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_a_version_that_is_none_is_refused(sweep: Path, cnngrid: Command) -> None:
    for digits in ("3FA2", "3fa", "today", ""):
        sweep.write_text(sweep.read_text().replace('"nets:plain"', f'"nets:plain@{digits}"'))
        refused = cnngrid("plan", sweep)
        assert refused.returncode == 2
        assert f"nets:plain@{digits}: no such version" in refused.stderr
        sweep.write_text(sweep.read_text().replace(f'"nets:plain@{digits}"', '"nets:plain"'))


@pytest.mark.slow
@pytest.mark.soak
def test_an_edit_can_be_vouched_for_after_a_run_that_was_cut_off(
    sweep: Path, files: Path, cnngrid: Command
) -> None:
    assert cnngrid("run", sweep, "--local").returncode == 0
    edit(files / "numbers_of_mine.py", "return 2.0", "return 4.0 / 2")
    results = Store(files / "results" / "small")
    from grid.cli.options import plan_sweep
    from grid.run.session import _write_plan

    _, plan = plan_sweep(str(sweep), None, None, False)
    _write_plan(results, plan)  # all that a run leaves that is stopped before its first trial ends
    done = cnngrid("run", sweep, "--local", "--same-code")
    assert "nothing to do" in done.stdout, done.stderr
    edit(files / "numbers_of_mine.py", "4.0 / 2", "6.0 / 3")
    assert "1 trial in" in cnngrid("run", sweep, "--local").stdout
    done = cnngrid("run", sweep, "--local", "--same-code")
    assert "has finished trials already" in " ".join(done.stderr.split())
