"""The command from the first `init` to the answers, and its messages about mistakes."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from grid.sweep.load import read_presets
from grid.sweep.schema import sweep_schema

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_from_nothing_to_answers(cnngrid: Command, tmp_path: Path) -> None:
    assert cnngrid("init", "mine.yaml").returncode == 0
    assert "exists already" in cnngrid("init", "mine.yaml").stderr
    plan = cnngrid("plan", "mine.yaml")
    assert plan.returncode == 0, plan.stderr
    assert "4 cells, 8 trials, 8 of them to run" in plan.stdout
    assert "cost: 40 epochs" in plan.stdout
    few = ("--set", "epochs=1", "--set", "limit_train=64", "--set", "limit_test=40")
    options = ("run", "mine.yaml", "--local", *few)
    run = cnngrid(*options, report=True)
    assert run.returncode == 0, run.stderr
    assert "mobilenet_small" in run.stdout
    folder = next((tmp_path / "results").iterdir())
    assert (folder / "report" / "index.html").exists()
    for arguments in (
        ("status", folder),
        ("table", folder, "coverage", "--format", "latex"),
        ("plot", folder, "latency-vs-params", "-o", "latency.pdf"),
        ("sql", folder, "SELECT * FROM cells", "--format", "parquet", "-o", "cells.parquet"),
        ("compact", folder),
        ("sql", folder, "SELECT count(*) AS n FROM trials", "--format", "csv"),
    ):
        result = cnngrid(*arguments)
        assert result.returncode == 0, (arguments, result.stderr)
    assert result.stdout.split() == ["n", "8"]
    assert (tmp_path / "latency.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "cells.parquet").exists()
    assert [p.name for p in (folder / "trials").iterdir()] == ["compacted-1.parquet"]
    again = cnngrid(*options)
    assert "nothing to do, 8 complete" in again.stdout


def test_a_plan_as_json_lists_every_trial(cnngrid: Command, write_sweep: Write) -> None:
    result = cnngrid("plan", write_sweep(), "--json")
    trials = json.loads(result.stdout)["trials"]
    assert [(t["cell"]["lr"], t["seed"]) for t in trials] == [
        (0.05, 0), (0.01, 0), (0.05, 1), (0.01, 1)
    ]  # fmt: skip
    assert all(t["config"]["arch"] == "cnn3" for t in trials)


def test_networks_data_sets_and_presets_are_listed(cnngrid: Command) -> None:
    archs = cnngrid("archs").stdout
    assert "57,044,810" in archs
    assert "19,114" in archs
    assert "imagefolder:PATH" in cnngrid("datasets").stdout
    presets = cnngrid("presets").stdout
    assert all(name in presets for name in read_presets())
    doctor = cnngrid("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert cnngrid("--version").stdout.startswith("cnngrid ")


def test_a_network_is_listed_layer_by_layer(cnngrid: Command) -> None:
    lines = cnngrid("archs", "cnn3", "--classes", "5").stdout.splitlines()
    assert lines[2].split() == ["0", "Conv2d", "10x32x32", "280", "276,480"]
    assert lines[-2].split()[:3] == ["total", "836,225", "0"]
    assert lines[-1].startswith("cnn3, 5 classes, 32x32 pixels: 836,225 parameters in all")
    assert "closest: cnn3" in cnngrid("archs", "cnn4").stderr
    wide = cnngrid("archs", "mobilenet_small", "--set", "width=2", "--image-size", "8").stdout
    assert "32x8x8" in wide
    assert "write arch_options.NAME=VALUE" in cnngrid("archs", "cnn3", "--set", "lr=1").stderr
    small = cnngrid("archs", "cnn3", "--image-size", "8")
    assert (small.returncode, "takes images of 32 to 39" in small.stderr) == (2, True)


def test_networks_of_libraries_are_listed_and_shown(cnngrid: Command) -> None:
    listed = cnngrid("archs", "timm:test_v*").stdout.splitlines()
    assert listed[1].split() == ["timm:test_vit", "160", "px", "r160_in1k"]
    assert "closest: resnet18" in cnngrid("archs", "torchvision:resnet81").stderr
    assert "lists all" in cnngrid("archs", "torchvision:nothing*").stderr
    options = ("--set", "arch_options.depth=1", "--image-size", "32", "--classes", "5")
    lines = cnngrid("archs", "timm:test_vit", *options).stdout.splitlines()
    assert lines[2].split()[:2] == ["(network)", "VisionTransformer"]
    assert "blocks.0.attn" in "".join(lines)
    assert "blocks.1.attn" not in "".join(lines)
    assert lines[-1].startswith("timm:test_vit, 5 classes, 32x32 pixels: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("run", "digits", "--local", "--slots", "2"), "leave --slots and --address out"),
        (("run", "digits", "--set", "lr=1"), "lr is tuned in preset digits"),
        (("run", "digits", "--set", "arch=cnn3"), "arch is compared in preset digits"),
        (("run", "digits", "--results", "/proc/nowhere"), "cannot be written"),
        (("status", "nowhere"), "there is no results folder nowhere"),
        (("compact", "nowhere"), "nowhere: no results folder"),
        (("sql", "nowhere"), "give a results folder and a question"),
        (("frobnicate",), "No such command"),
    ],
)
def test_mistakes_end_with_a_short_message_and_code_2(
    cnngrid: Command, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    result = cnngrid(*arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()


def _validates(content: Any) -> bool:
    return jsonschema.Draft202012Validator(sweep_schema()).is_valid(content)


@pytest.mark.slow
def test_the_schema_takes_good_files_and_refuses_bad_ones() -> None:
    jsonschema.Draft202012Validator.check_schema(sweep_schema())
    good: dict[str, Any] = {}
    for text in read_presets().values():
        good = YAML(typ="safe", pure=True).load(text)
        assert _validates(good)
    rich = {
        **good,
        "tune": {"trials": 3, "axes": {"lr": {"log_uniform": [1e-4, 1]}, "batch_size": [1, 2]}},
        "fixed": {"schedule": {"plateau": {"patience": 3}}, "augment": ["flip", {"crop": {}}]},
        "stop": {"asha": {"reduction": 4}},
    }
    assert _validates(rich)
    for bad in (
        {"sweeep": "x"},
        {"fixed": {"epoch": 1}},
        {"fixed": {"epochs": "many"}},
        {"compare": {"arch": "cnn3"}},
        {"compare": {"arch": ["cnn4"]}},
        {"fixed": {"schedule": "cosin"}},
        {"tune": {"trials": 1, "axes": {"lr": {"loguniform": [1, 2]}}}},
    ):
        assert not _validates({**good, **bad}), bad


@pytest.mark.slow
def test_an_unreadable_image_is_named_or_left_out_and_counted(
    cnngrid: Command, write_sweep: Write, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "pets" / "cat" / "torn.jpg").write_bytes(b"torn")
    fixed = {"dataset": f"imagefolder:{tmp_path}/pets", "image_size": 32, "epochs": 1, "lr": 0.1}
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed=fixed, seeds=[0])
    refused = cnngrid("run", sweep, "--local")
    assert refused.returncode == 2
    assert "cat/torn.jpg" in refused.stderr
    assert "Traceback" not in refused.stderr
    result = cnngrid("run", sweep, "--local", "--skip-unreadable")
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert "left 1 unreadable image(s) out" in said
    assert "20 images of 21 files in 2 classes: 16 for training, 4 for test; 20 .png" in said
    (tmp_path / "pets" / "cat" / "torn.jpg").unlink()
    whole = (tmp_path / "pets" / "cat" / "0.png").read_bytes()
    (tmp_path / "pets" / "cat" / "0.png").write_bytes(whole[: len(whole) // 2])
    refused = cnngrid("plan", sweep)  # its header is whole
    assert refused.returncode == 2
    assert "cat/0.png" in refused.stderr
    assert "Traceback" not in refused.stderr
    query = "SELECT skipped_images AS n FROM trials"
    assert cnngrid("sql", "results/small", query, "--format", "csv").stdout == "n\n1\n"
