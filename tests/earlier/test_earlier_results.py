"""Results folders and checkpoints of commit 855e87d in today's commands.

`answers.json` has the answers of that commit (`answers.py`). It also made two folders, with one
slot and one thread: `folder-cut`, whose driver was killed in the second epoch of its second trial,
and `folder-paused`, a tuned sweep that was interrupted after four of its six suggestions.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.earlier.answers import COMPUTED, STORED, call, logs, report, run, table, views
from tests.small_sweeps import NOT_METRICS

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent.parent / "docs" / "results"
ANSWERS: dict[str, Any] = json.loads((HERE / "answers.json").read_text(encoding="utf-8"))
KEYS = {
    "trials": ("trial_id",),
    "epochs": ("trial_id", "epoch"),
    "classes": ("trial_id", "split", "class_index"),
    "predictions": ("trial_id", "split", "index"),
}

Rows = dict[tuple[Any, ...], dict[str, Any]]
# Copy a folder of commit 855e87d, run its sweep file, and return the new folder.
Resume = Callable[[str], Path]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the folder of `docs/results/` that the test is parametrized by."""
    return Path(shutil.copytree(RESULTS / request.param, tmp_path / request.param))


def test_folders_with_answers_are_still_there() -> None:
    assert set(ANSWERS) <= {each.name for each in RESULTS.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted(ANSWERS), indirect=True)
def test_status_sql_and_logs_answer_as_before_also_when_compacted(folder: Path) -> None:
    answers = ANSWERS[folder.name]
    check(views(folder, *STORED, *COMPUTED), answers["views"], "views")
    check(json.loads(run("status", folder, "--json")), answers["status"], "status")
    before = sorted(folder.rglob("*.parquet"))
    run("compact", folder)
    if sorted(folder.rglob("*.parquet")) != before:
        check(
            views(folder, *STORED), {name: answers["views"][name] for name in STORED}, "compacted"
        )
    check(logs(folder), answers["logs"], "logs")


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["simpson-kumar", "xiong-cnn3"], indirect=True)
def test_report_has_the_tables_and_figures_it_had(folder: Path) -> None:
    answers = ANSWERS[folder.name]
    found = report(folder)
    check(found["tables"], answers["tables"], "tables")
    assert set(answers["figures"]) <= set(found["figures"])


@pytest.mark.slow
def test_table_and_plot_answer_by_name(tmp_path: Path) -> None:
    """`report` makes all of them; here two that the folder has are asked for, and one it lacks."""
    folder, answers = RESULTS / "xiong-mobilenet", ANSWERS["xiong-mobilenet"]
    text = run("table", folder, "comparison", "--format", "csv")
    check(table(text), answers["tables"]["comparison"], "comparison")
    picture = tmp_path / "curves.svg"
    run("plot", folder, "curves", "-o", picture)
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert "parallel-coordinates" not in answers["figures"]
    code, _, errors = call("plot", folder, "parallel-coordinates", "-o", picture)
    assert code == 2
    [line] = errors.splitlines()
    assert line.startswith("cnngrid: ")
    assert "parallel-coordinates" in line


def check(found: Any, expected: Any, where: str) -> None:
    """Compare an answer with a recorded one; later versions may add keys and columns.

    Numbers of the papers ship with the analysis, and some were corrected since: tables, views and
    columns of them must be there, but hold what they hold today.
    """
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        for key, value in expected.items():
            assert key in found, f"{where}: {key}"
            if key.startswith("reported"):
                continue
            check(found[key], value, f"{where}: {key}")
    elif isinstance(expected, list):
        assert isinstance(found, list), where
        assert len(found) == len(expected), where
        for place, value in enumerate(expected):
            check(found[place], value, f"{where}[{place}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9), where
    elif found != expected:
        assert isinstance(expected, int | str), where
        # A number in CSV is text.
        assert float(found) == pytest.approx(float(expected), rel=1e-9), where


# -- runs that were cut off --------------------------------------------------------------------


@pytest.fixture
def resume(tmp_path: Path, data_dir: None) -> Resume:
    def run_copy(name: str) -> Path:
        copy = Path(shutil.copytree(HERE / f"folder-{name}", tmp_path / name))
        run_local(name, tmp_path)
        return copy

    return run_copy


@pytest.fixture
def data_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNGRID_DATA", str(tmp_path_factory.getbasetemp() / "data"))


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint(resume: Resume, tmp_path: Path) -> None:
    before = HERE / "folder-cut"
    [complete] = rows(before, "trials")
    [cut_off] = {key[:1] for key in rows(before, "epochs")} - {complete}
    resumed = resume("cut")

    trials = rows(resumed, "trials")
    check(trials[complete], rows(before, "trials")[complete], "not run again")
    assert trials[cut_off]["state"] == "complete"
    assert trials[cut_off]["attempts"] == 2
    # The checkpoint is of a step in the second epoch, which therefore ends in the second attempt.
    epochs = [row for key, row in sorted(rows(resumed, "epochs").items()) if key[:1] == cut_off]
    assert [row["attempt"] for row in epochs] == [1, 2, 2, 2]
    check(epochs[0], rows(before, "epochs")[(*cut_off, 1)], "first epoch")
    assert (resumed / "checkpoints" / cut_off[0] / "best.pt").is_file()
    assert not (resumed / "run" / "trials" / f"{cut_off[0]}.json").exists()
    whole = run_local(resumed.name, tmp_path / "whole")
    check_equal(resumed, whole, *complete)
    run("compact", resumed)
    assert [path.name for path in (resumed / "trials").iterdir()] == ["compacted-1.parquet"]
    check_equal(resumed, whole, *complete)


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_its_suggestions(resume: Resume, tmp_path: Path) -> None:
    before = HERE / "folder-paused"
    [complete] = rows(before, "trials")
    paused = {path.stem for path in (before / "paused").iterdir()}
    resumed = resume("paused")

    suggested = sorted((before / "asked").iterdir())
    assert len(suggested) == 4
    for path in suggested:
        assert (resumed / "asked" / path.name).read_bytes() == path.read_bytes()
    trials = rows(resumed, "trials")
    assert len(trials) == 6
    check(trials[complete], rows(before, "trials")[complete], "not run again")
    assert {trials[(trial_id,)]["state"] for trial_id in paused} <= {"pruned", "complete"}
    # At least one config that waited was promoted, and went on from its checkpoint.
    stored, epochs = rows(before, "epochs"), rows(resumed, "epochs")
    promoted = {key[0] for key in epochs.keys() - stored.keys()} & paused
    assert promoted
    for key in stored:
        if key[0] in promoted:
            check(epochs[key], stored[key], "epoch of a promoted trial")
    check_equal(resumed, run_local(resumed.name, tmp_path / "whole"), *complete)


@pytest.mark.slow
def test_folders_of_cut_off_runs_open(tmp_path: Path) -> None:
    counts = {
        "cut": {"planned": 2, "complete": 1, "paused": 0, "missing": 1},
        "paused": {"planned": 6, "complete": 1, "paused": 3, "missing": 2},
    }
    for name, expected in counts.items():
        copy = shutil.copytree(HERE / f"folder-{name}", tmp_path / name)
        for claim in (copy / "run" / "trials").iterdir():  # a checkout makes them new
            os.utime(claim, (time.time() - 3600,) * 2)
        status = json.loads(run("status", copy, "--json"))
        assert status["drivers"] == []
        assert {key: sum(cell[key] for cell in status["cells"]) for key in expected} == expected
        [(trial_id,)] = rows(copy, "trials")
        assert trial_id in run("sql", copy, "SELECT * FROM trials", "--format", "json")


@pytest.mark.slow
@pytest.mark.parametrize("analysis", ["samples", "predictions", "feature-maps"])
def test_explain_looks_into_a_trial(analysis: str, data_dir: None, tmp_path: Path) -> None:
    copy = shutil.copytree(HERE / "folder-cut", tmp_path / "cut")
    picture = tmp_path / "picture.png"
    run("explain", copy, analysis, "-o", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def run_local(name: str, results: Path) -> Path:
    """Run the sweep file of a folder below `results`, without Ray; return the results folder."""
    from grid import load_sweep, run_sweep

    spec = load_sweep(HERE / f"folder-{name}" / "sweep.yaml")
    assert run_sweep(spec, results=results, local=True, quiet=True).unfinished == 0
    return results / name


def rows(folder: Path, name: str) -> Rows:
    """Return the rows of a stored table by their key."""
    # One by one: files of different versions may have different columns.
    files = sorted((folder / name).iterdir())
    found = [row for path in files for row in pq.read_table(path).to_pylist()]
    return {tuple(row[column] for column in KEYS[name]): row for row in found}


def check_equal(resumed: Path, whole: Path, complete: str) -> None:
    """Check that two folders hold the same trials with the same metrics.

    Metrics are equal bit for bit only on one type of machine with the same versions, and processors
    of different generations can have one name. If the trial that was complete before has other
    numbers today, `resumed` was begun elsewhere: its first epoch is near, and of the others only
    states and numbers of epochs are compared.
    """
    earlier, today = (rows(each, "trials")[(complete,)] for each in (resumed, whole))
    equal_machines = all(
        earlier[key] == today[key] for key in ("device", "versions", "train_loss", "test_loss")
    )
    first = [rows(each, "epochs")[(complete, 1)]["train_loss"] for each in (resumed, whole)]
    assert first[0] == pytest.approx(first[1], rel=0.2)
    for name in KEYS:
        found, expected = rows(resumed, name), rows(whole, name)
        if name in ("trials", "epochs") or equal_machines:
            assert found.keys() == expected.keys(), name
        # Later versions may fill more columns.
        stored = pq.read_schema(HERE / f"folder-{resumed.name}" / name / f"{complete}.parquet")
        columns = set(stored.names) - NOT_METRICS
        if not equal_machines:
            columns &= {"trial_id", "state", "epochs_run", "epoch", "lr"}
        for key, row in expected.items():
            assert {c: found[key][c] for c in columns} == {c: row[c] for c in columns}, (name, key)
