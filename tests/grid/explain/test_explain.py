"""`cnngrid explain` on a small sweep that was run."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from analysis import connect, make_table, open_results
from grid.explain.registry import ANALYSES
from tests.small_sweeps import run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]

DOC = Path(__file__).parents[3] / "docs" / "results.md"


@pytest.fixture
def results(write_sweep: Write, tmp_path: Path, data_dir: Path) -> Path:
    """Run two trials of `mobilenet_small`, one epoch each."""
    sweep = write_sweep(
        compare={"arch": ["mobilenet_small"], "lr": [0.05, 0.01]},
        fixed={"epochs": 1, "image_size": 16},
        seeds=[0],
    )
    run_local(sweep, tmp_path, data_dir)
    return tmp_path / "small"


def test_analyses_are_listed_and_documented(cnngrid: Command) -> None:
    listed = cnngrid("explain", "nowhere").stdout
    for name, analysis in ANALYSES.items():
        assert f"{name:16} {analysis.meaning}" in listed
        options = ", ".join(f"`--{option}`" for option in analysis.options)
        assert f"| `{name}` | {options} | {analysis.meaning} |" in DOC.read_text(encoding="utf-8")


@pytest.mark.soak
@pytest.mark.slow
def test_every_analysis_makes_its_figure_or_table(
    cnngrid: Command, results: Path, tmp_path: Path
) -> None:
    tables = {"receptive-field", "separable-cost", "enhancement"}
    for name in ANALYSES:
        file = tmp_path / "output" / f"{name}.{'csv' if name in tables else 'png'}"
        few = ("--count", "2") if "count" in ANALYSES[name].options else ()
        result = cnngrid("explain", results, name, "-o", file, *few)
        assert result.returncode == 0, (name, result.stderr)
        assert result.stdout.strip() == str(file)
        if name not in tables:
            with Image.open(file) as figure:
                assert min(figure.size) > 200
    separable = (tmp_path / "output" / "separable-cost.csv").read_text().splitlines()
    assert len(separable) == 1 + 4

    connection = open_results(results)
    [(winner,)] = connection.execute(
        "SELECT trial_id FROM trials ORDER BY val_top1 DESC, config_id LIMIT 1"
    ).fetchall()
    counts = connection.execute(
        "SELECT trial_id, split, count(*), count(random_repaired) FROM enhancement GROUP BY ALL"
    ).fetchall()
    assert sorted(counts) == [(winner, "test", 4, 4), (winner, "val", 16, 0)]
    # The accuracy before any change is that of the trial itself.
    agrees = connection.execute(
        "SELECT bool_and(abs(top1_before - if(split = 'val', val_top1, test_top1)) < 1e-9) "
        "FROM enhancement JOIN trials USING (trial_id)"
    ).fetchone()
    assert agrees == (True,)

    table = make_table(connect(results), "enhancement")
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    assert [row["transform"] for row in rows] == [
        "brightness", "contrast", "sharpness", "combined"
    ]  # fmt: skip
    for row in rows:
        assert row["net_change"].mean == row["repaired"].mean - row["broken"].mean
        images = (row["top1_after"].mean - row["top1_before"].mean) * 40  # test images
        assert row["net_change"].mean == pytest.approx(images)


@pytest.mark.slow
def test_messages_about_mistakes_name_the_choices(cnngrid: Command, results: Path) -> None:
    shutil.rmtree(results / "checkpoints")
    for arguments, expected in (
        (("samplez",), "there is no analysis 'samplez' (closest: samples); there are: samples, "),
        (("samples", "--layer", "0"), "samples takes no --layer; its options: count"),
        (("errors",), "has no checkpoint"),
        (("errors", "--trial", "xyz"), "--trial xyz: no such trial"),
        (("feature-maps", "--image", "40"), "there are 40 test images, 0 to 39"),
        (("samples", "-o", "samples.svg"), "samples.svg: a figure of this kind is a .png file"),
    ):
        result = cnngrid("explain", results, *arguments)
        assert result.returncode == 2, (arguments, result.stdout, result.stderr)
        assert expected in result.stderr
        assert "Traceback" not in result.stderr
    assert "keep: best" in cnngrid("explain", results, "errors").stderr
