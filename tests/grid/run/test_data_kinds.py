"""Sweeps over data sets of pictures: ids by content, numbers that no reader and no Ray changes."""

from pathlib import Path

import pytest

from grid import load_sweep, make_plan, run_sweep
from grid.errors import SweepError
from tests.small_pictures import three
from tests.small_sweeps import metrics, run_local

FIXED = "arch: cnn3, image_size: 32, optimizer: sgd, lr: 0.05, epochs: 2, batch_size: 16"


def write_sweep(path: Path, datasets: list[str], more: str = "") -> Path:
    path.write_text(
        f"sweep: kinds\ncompare: {{dataset: [{', '.join(datasets)}]}}\nfixed: {{{FIXED}{more}}}\n"
    )
    return path


def ids(path: Path, data_dir: Path) -> list[tuple[str, str]]:
    plan = make_plan(load_sweep(path), data_dir=data_dir)
    return [(trial.trial_id, trial.cell_id) for trial in plan.trials]


def test_ids_count_content_and_framing_and_no_path(tmp_path: Path) -> None:
    names = three(tmp_path)
    before = ids(write_sweep(tmp_path / "a.yaml", names), tmp_path)
    assert len({*before}) == 3
    (tmp_path / "own").rename(tmp_path / "moved")
    (tmp_path / "shards").rename(tmp_path / "other")
    moved = ["imagefolder:moved", "csv:moved/list.csv", "parquet:other?label=label"]
    assert ids(write_sweep(tmp_path / "b.yaml", moved), tmp_path) == before
    crop = write_sweep(tmp_path / "c.yaml", moved, ", resize: crop")
    assert ids(crop, tmp_path) == before
    for more in (", resize: pad", ", background: white", ", background: [1, 2, 3]"):
        other = ids(write_sweep(tmp_path / "d.yaml", moved, more), tmp_path)
        assert not {trial for trial, _ in other} & {trial for trial, _ in before}
        assert [cell for _, cell in other] == [cell for _, cell in before]
    listing = tmp_path / "moved/list.csv"
    listing.write_text(listing.read_text().replace("train/cat/0.png,cat", "train/cat/0.png,dog"))
    after = ids(tmp_path / "b.yaml", tmp_path)
    assert [one == two for one, two in zip(after, before, strict=True)] == [True, False, True]


def test_framing_means_nothing_for_arrays(tmp_path: Path) -> None:
    plain = ids(write_sweep(tmp_path / "a.yaml", ["digits"]), tmp_path)
    framed = write_sweep(tmp_path / "b.yaml", ["digits"], ", resize: pad, background: [0, 0, 0]")
    assert ids(framed, tmp_path) == plain
    with pytest.raises(SweepError, match=r"c.yaml:3: .*squosh.*closest: squash"):
        make_plan(load_sweep(write_sweep(tmp_path / "c.yaml", ["digits"], ", resize: squosh")))


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.ray
def test_every_reader_gives_the_same_numbers_with_ray_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(tmp_path)
    monkeypatch.chdir(tmp_path)  # names below it, which Ray's workers have to be told
    names = ["imagefolder:own", "csv:own/list.csv", "parquet:shards"]
    sweep = write_sweep(tmp_path / "a.yaml", names, ", resize: pad, augment: [flip]")
    run_local(sweep, "local", tmp_path / "data")
    run_sweep(load_sweep(sweep), results="ray", data_dir=tmp_path / "data", quiet=True)
    alone = metrics(tmp_path / "local/kinds")
    assert metrics(tmp_path / "ray/kinds") == alone
    losses = {row["test_loss"] for row in alone["trials"]}
    assert len(alone["trials"]) == 3
    assert len(losses) == 1
