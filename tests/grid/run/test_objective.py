"""Real sweeps by an objective and with metrics of the user's own: what they choose and keep."""

import json
import math
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from analysis import connect
from analysis.results.database import rows
from grid import load_sweep, make_plan
from grid.errors import SweepError
from grid.search.sweep_search import Search
from grid.store.folder import Store
from grid.trial.assignment import Assignment
from tests.object_store import object_store
from tests.small_sweeps import metrics, run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]

CODE = """
import random, torch

def wrong(logits, labels):
    return (logits.argmax(1) != labels).double().mean()

def cost_error(logits, labels):
    return ((logits.argmax(1) != labels) * (1.0 + labels)).mean()

def hostile(logits, labels):
    torch.manual_seed(7), random.seed(7), logits.zero_()
    return 1

def of_64_images(logits, labels):
    if len(labels) != 64:
        raise ValueError(f"{len(labels)} images")
    return 1.0
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run_mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def first_assignment(sweep: Path, store: Store, data_dir: Path) -> Assignment:
    spec = load_sweep(sweep)
    plan = make_plan(spec, data_dir=data_dir)
    trial = Search(plan, None, {}).next()
    assert trial is not None
    return Assignment(
        *(trial, spec.sweep, str(store.folder), str(data_dir), 1, "cpu", "best", "all"),
        *(spec.checkpoint_s, None),
        metrics=plan.metrics,
    )


def ask(folder: Path | str, question: str) -> list[dict[str, Any]]:
    return rows(connect(folder, all=True), question)


def values(folder: Path | str) -> dict[tuple[Any, ...], float]:
    """Return the table `metrics`; raise if a trial, split, epoch and name has two rows."""
    found = ask(folder, "FROM metrics")
    keyed = {(r["trial_id"], r["split"], r["epoch"], r["name"]): r["value"] for r in found}
    assert len(keyed) == len(found)
    return keyed


@pytest.mark.slow
def test_the_objective_chooses_epochs_winners_confirmed_configs_and_kept_weights(
    mine: None, write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    # The more images are wrong the better: all that goes by accuracy chooses another config.
    sweep = write_sweep(
        compare={"arch": ["cnn3"]},
        tune={"trials": 3, "sampler": "random", "axes": {"lr": [1e-7, 0.02, 0.05]},
              "confirm": {"top": 1, "seeds": 1}},
        fixed={"objective": "run_mine:wrong", "optimizer": "adam", "lr": 0.02, "limit_train": 600},
        seeds=[0],
        keep={"top": 1},
    )  # fmt: skip
    run_local(sweep, tmp_path, data_dir)
    folder = tmp_path / "small"
    epochs = ask(folder, "FROM epochs")
    for row in epochs:
        assert row["objective"] == pytest.approx(1 - row["val_top1"])
    for trial in ask(folder, "FROM trials"):
        own = [row for row in epochs if row["trial_id"] == trial["trial_id"]]
        best = max(own, key=lambda row: (row["objective"], -row["epoch"]))
        assert (trial["best_epoch"], trial["objective"]) == (best["epoch"], best["objective"])
    asked = [row for row in Store(folder).asked() if row["role"] == "searched"]
    number = {row["config_id"]: row["suggestion"] for row in asked}
    searched = sorted(
        ask(folder, "FROM trials WHERE role = 'searched'"),
        key=lambda row: (-row["objective"], number[row["config_id"]]),  # of equals the first asked
    )
    assert searched[0]["val_top1"] == min(row["val_top1"] for row in searched)
    assert len({row["val_top1"] for row in searched}) > 1
    (winner,) = ask(folder, "FROM best")
    assert (winner["role"], winner["config_id"]) == ("confirmed", searched[0]["config_id"])
    ended = ask(folder, "FROM trials ORDER BY objective DESC, ended_at")
    kept = {path.parent.name for path in folder.glob("checkpoints/*/best.pt")}
    assert kept == {ended[0]["trial_id"]}
    # An objective of the user's is a metric too: it is known on test.
    on_test = [key for key in values(folder) if key[1] == "test"]
    assert {key[3] for key in on_test} == {"run_mine:wrong"}
    assert len(on_test) == len(ended) == 4


def test_metrics_change_no_bit_and_a_resumed_trial_has_each_row_once(
    mine: None, write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    from grid.trial.trial import run_trial

    small: dict[str, Any] = {"compare": {"lr": [0.05]}, "seeds": [0], "checkpoint_s": 0.001}
    fixed = {"arch": "cnn3", "epochs": 4}
    run_local(write_sweep(**small, fixed=fixed), tmp_path / "plain", data_dir)
    names = ["run_mine:hostile", "macro_f1", "run_mine:of_64_images"]
    sweep = write_sweep("with.yaml", **small, fixed=fixed, metrics=names)
    store = Store(tmp_path / "small")
    with closing(run_trial(first_assignment(sweep, store, data_dir), store)) as attempt:
        ended = (progress.epoch for progress in attempt if not progress.within_epoch)
        assert [next(ended), next(ended)] == [1, 2]
    (stored,) = store.metrics().values()
    assert [row["epoch"] for row in stored] == [1] * 3 + [2] * 3
    run_local(sweep, tmp_path, data_dir)
    plain, measured = metrics(tmp_path / "plain" / "small"), metrics(store.folder)
    del plain["metrics"], measured["metrics"]
    for row in measured["trials"]:  # the code of the metrics
        assert set(json.loads(row.pop("code"))) == {"run_mine:hostile", "run_mine:of_64_images"}
        assert row.pop("code_folder")
    for row in plain["trials"]:
        assert (row.pop("code"), row.pop("code_folder")) == (None, None)
    assert measured == plain
    assert ask(store.folder, "SELECT attempts FROM trials") == [{"attempts": 2}]

    by_key = values(store.folder)
    assert len(by_key) == len(names) * (4 + 1)
    (row,) = ask(store.folder, "FROM trials")
    test_f1 = by_key[row["trial_id"], "test", row["best_epoch"], "macro_f1"]
    assert test_f1 == row["test_macro_f1"]
    failed = ask(
        store.folder, "FROM metrics WHERE name = 'run_mine:of_64_images' AND split = 'val'"
    )
    assert all(math.isnan(row["value"]) for row in failed)
    assert failed[0]["reason"].startswith("ValueError: 144 images (run_mine.py:")


@pytest.mark.slow
@pytest.mark.soak
def test_finished_trials_get_a_new_metric_also_after_compaction(
    mine: None, write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command
) -> None:
    store = Store(tmp_path / "later" / "small")
    later: dict[str, Any] = {"fixed": {"epochs": 2}, "compare": {"arch": ["cnn3"], "lr": [0.05]}}
    run_local(write_sweep(**later), tmp_path / "later", data_dir)
    lost, kept = sorted(path.parent for path in store.folder.glob("checkpoints/*/best.pt"))
    (lost / "best.pt").unlink()
    store.compact()
    for names in (["macro_f1"], ["macro_f1", "run_mine:cost_error"]):
        sweep = write_sweep(**later, metrics=names)
        result = cnngrid("run", sweep, "--local", "--results", tmp_path / "later")
        assert result.returncode == 0, result.stderr
        assert "1 finished trial get" in " ".join(result.stderr.split())
        assert "1 cannot, because their weights were not kept" in " ".join(result.stderr.split())
        run_local(write_sweep(**later, metrics=names), tmp_path / "whole", data_dir)
        store.compact()
    whole = values(tmp_path / "whole" / "small")
    best = {row["trial_id"]: row["best_epoch"] for row in ask(store.folder, "FROM trials")}
    expected = {
        key: value
        for key, value in whole.items()
        if key[0] == kept.name and key[2] == best[kept.name]
    }
    assert values(store.folder) == expected
    assert len(expected) == 4


@pytest.mark.slow
def test_an_object_store_has_the_metrics_of_a_folder(
    mine: None, write_sweep: Write, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = write_sweep(metrics=["macro_f1", "run_mine:cost_error"], seeds=[0])
    run_local(sweep, tmp_path / "whole", data_dir)
    with object_store() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        run_local(sweep, "s3://store/results", data_dir)
        assert values("s3://store/results/small") == values(tmp_path / "whole" / "small")
        assert len(values(tmp_path / "whole" / "small")) == 2 * 2 * (3 + 1)


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.slow
def test_ray_and_local_give_the_same_objective_and_metrics(
    mine: None, write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid_process: Command
) -> None:
    sweep = write_sweep(
        compare={"arch": ["cnn3"]},
        tune={"trials": 4, "sampler": "random", "axes": {"lr": {"log_uniform": [1e-3, 0.1]}}},
        stop={"asha": {"grace_epochs": 1, "reduction": 2}},
        fixed={"objective": "run_mine:cost_error", "optimizer": "adam"},
        metrics=["balanced_top1"],
        seeds=[0],
    )
    run_local(sweep, tmp_path / "local", data_dir)
    result = cnngrid_process("run", sweep, "--slots", "1", "--results", tmp_path / "ray")
    assert result.returncode == 0, result.stderr
    local, ray = (metrics(tmp_path / name / "small") for name in ("local", "ray"))
    assert ray == local
    assert local["metrics"]


def test_a_wrong_metric_is_refused_before_anything_runs(
    mine: None, write_sweep: Write, tmp_path: Path, data_dir: Path
) -> None:
    sweep = write_sweep(metrics=["run_mine:absent"])
    with pytest.raises(SweepError, match="run_mine:absent: module run_mine has no function absent"):
        run_local(sweep, tmp_path, data_dir)
    assert not list((tmp_path / "small" / "trials").glob("*"))
    assert load_sweep(sweep).metrics == ("run_mine:absent",)
