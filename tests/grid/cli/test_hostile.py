"""Hostile sweep files and results folders: refused with a message, or harmless."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from analysis.tables.catalog import TABLES
from tests.small_sweeps import metrics, run_local

ROOT = Path(__file__).resolve().parents[3]
Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]


class Trap:
    """An object that creates a file if an ordinary unpickler loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_in_place_of_a_checkpoint_is_not_run(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command, zipped: bool
) -> None:
    trap = tmp_path / "trap"
    hostile = tmp_path / "hostile.pt"
    if zipped:
        torch.save({"state": Trap(trap), "weights": Trap(trap)}, hostile)
        torch.load(hostile, weights_only=False)
    else:
        hostile.write_bytes(pickle.dumps({"state": Trap(trap)}))
        pickle.loads(hostile.read_bytes())
    trap.unlink()  # the trap works

    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0])
    folder = tmp_path / "results" / "small"
    planned = json.loads(cnngrid("plan", sweep, "--json").stdout)["trials"][0]["trial_id"]
    (folder / "checkpoints" / planned).mkdir(parents=True)
    (folder / "checkpoints" / planned / "last.pt").write_bytes(hostile.read_bytes())
    result = cnngrid("run", sweep, "--local")
    assert result.returncode == 0, result.stderr
    run_local(sweep, tmp_path / "whole", data_dir)
    assert metrics(folder) == metrics(tmp_path / "whole" / "small")  # from its first epoch

    (folder / "checkpoints" / planned / "best.pt").write_bytes(hostile.read_bytes())
    refused = cnngrid("explain", folder, "errors")
    assert refused.returncode == 2
    assert "best.pt" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not trap.exists()


def test_only_readers_that_run_no_code_unpickle() -> None:
    calls = []
    for package in ("grid", "cnncore", "cluster", "analysis"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            calls += re.findall(r"torch\.load\((?![^)]*weights_only=True)", text)
            calls += re.findall(r"(?:cloud)?pickle\.loads?\(|allow_pickle=True|yaml\.load", text)
    assert calls == []


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/tmp/x", ".x", "a\nb", "x" * 101, "$HOME"])
def test_a_sweeps_name_stays_a_folder_below_the_results(
    write_sweep: Write, tmp_path: Path, cnngrid: Command, name: str
) -> None:
    before = sorted(tmp_path.parent.iterdir())
    result = cnngrid("run", write_sweep(sweep=name), "--local")
    assert result.returncode == 2
    assert "sweep: a name of letters" in result.stderr
    assert not (tmp_path / "results").exists()
    assert sorted(tmp_path.parent.iterdir()) == before


@pytest.mark.slow
def test_a_sweep_file_too_large_or_that_unfolds_is_refused_at_once(
    tmp_path: Path, cnngrid: Command
) -> None:
    sweep = tmp_path / "bad.yaml"

    def refused(expected: str, *words: str) -> None:
        result = cnngrid(*(words or ("plan",)), sweep)
        assert result.returncode == 2
        assert expected in result.stderr
        assert "Traceback" not in result.stderr

    with sweep.open("wb") as file:
        file.write(b"sweep: s\n")
        file.truncate(50_000_000)
    refused("bad.yaml: larger than 1 MB, so not a sweep file")
    refused("bad.yaml: larger than 1 MB, so not a sweep file", "run", "--local")
    # Ten thousand million values in 400 bytes.
    lines = ["sweep: s", "a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, after in zip("abcdefghi", "bcdefghij", strict=True):
        lines.append(f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]")
    sweep.write_text("\n".join(lines))
    refused("bad.yaml: unfolds to more than 100,000 values, so not a sweep file")
    sweep.write_text("sweep: s\ncompare: &a {arch: [*a]}\n")
    refused("bad.yaml:2: compare.arch[0]: input should be a valid string")
    for bracket in "[{":
        sweep.write_text("sweep: s\ncompare: " + bracket * 100_000)
        refused("bad.yaml: is nested too deeply, so not a sweep file")
    merges = [f"b{number}: {{<<: *a}}" for number in range(10_000)]
    sweep.write_text("\n".join(["a: &a {x: 1}", *merges]))
    refused("bad.yaml: has more than 50,000 values or 1,000 merges (<<), so not a sweep file")
    sweep.write_text("\n" * 60_000)
    refused("bad.yaml: a sweep file holds keys and values")
    sweep.unlink()
    sweep.symlink_to("/dev/zero")
    refused("bad.yaml: not a regular file, so not a sweep file")
    sweep.unlink()
    os.mkfifo(sweep)
    refused("bad.yaml: not a regular file, so not a sweep file")


HOSTILE_NETWORK = """
from torch import nn
def build(classes, note): return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))
"""
NOTES = (
    "</script><script>document.title='owned'</script>",
    "'; DROP TABLE trials; --",
    """"); COPY (SELECT 1) TO 'owned.csv'; --""",
    "$$ ' || (SELECT content FROM read_text('/etc/hostname')) || '",
)


class Elements(HTMLParser):
    """Elements, attributes and script texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts.append(data)


@pytest.mark.slow
def test_sql_and_html_in_names_and_values_are_only_text(
    write_sweep: Write, tmp_path: Path, cnngrid: Command
) -> None:
    label = "<img src=x onerror=alert(1)>"
    data = tmp_path / "<b>photos"
    rng = np.random.default_rng(0)
    for name in (label, "plain' OR 1=1"):
        (data / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(data / name / f"{number}.png")
    (tmp_path / "hostile_networks.py").write_text(HOSTILE_NETWORK)
    sweep = write_sweep(
        compare={
            "arch": ["hostile_networks:build"],
            "arch_options": [{"note": note} for note in NOTES],
        },
        fixed={
            "dataset": f"imagefolder:{data}",
            "image_size": 8,
            "lr": 0.1,
            "limit_test": None,
            "limit_train": None,
        },
        seeds=[0],
    )
    folder = tmp_path / "results" / "small"
    result = cnngrid("run", sweep, "--local", report=True)
    assert result.returncode == 0, result.stderr

    bad = write_sweep("bad.yaml", compare={"arch": ["hostile_networks:<script>"], "lr": [0.1]})
    assert "must be a known name or package.module:function" in cnngrid("plan", bad).stderr

    table = cnngrid("table", folder, "comparison", "--format", "html").stdout
    assert "&lt;/script&gt;&lt;script&gt;document.title=" in table
    assert "<script" not in table
    report = folder / "report"
    assert len(list((report / "tables").iterdir())) == 2 * len(TABLES)
    for figure in (report / "figures").iterdir():
        elements = ElementTree.parse(figure).iter()
        tags = {element.tag.rpartition("}")[2] for element in elements}
        assert not tags & {"script", "img", "foreignObject"}
    answer = cnngrid("sql", folder, "SELECT cell, count(*) AS n FROM trials GROUP BY 1 ORDER BY 1",
                     "--format", "json")  # fmt: skip
    cells = [json.loads(row["cell"]) for row in json.loads(answer.stdout)]
    assert sorted(cell["arch_options"]["note"] for cell in cells) == sorted(NOTES)
    assert not list(tmp_path.rglob("owned*"))

    text = (folder / "report" / "index.html").read_text()
    page = Elements()
    page.feed(text)
    assert "&lt;script&gt;document.title=" in text
    assert "img" not in page.tags
    assert "b" not in page.tags
    assert not any(name.startswith("on") for name in page.attributes)
    assert not any(code.lstrip().startswith("document.title") for code in page.scripts)
    assert page.tags.count("script") == text.count("</script>")


@pytest.mark.slow
def test_a_results_folder_that_points_elsewhere_changes_nothing_there(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command
) -> None:
    sweep = write_sweep(compare={"arch": ["cnn3"]}, fixed={"lr": 0.05}, seeds=[0], keep="none")
    planned = json.loads(cnngrid("plan", sweep, "--json").stdout)["trials"][0]["trial_id"]
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret"
    secret.write_text("sweep: small\nsecret: yes\n")
    folder = tmp_path / "results" / "small"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "trials").mkdir()
    (folder / "sweep.yaml").symlink_to(secret)
    (folder / "checkpoints" / planned).symlink_to(outside)
    assert "secret" not in cnngrid("report", folder).stdout
    assert "secret: yes" not in (folder / "report" / "index.html").read_text()
    result = cnngrid("run", sweep, "--local")
    assert result.returncode == 0, result.stderr
    assert secret.read_text() == "sweep: small\nsecret: yes\n"
    assert list(outside.iterdir()) == [secret]
    assert not (folder / "sweep.yaml").is_symlink()

    secret.write_text("sweep: another\n")
    (folder / "sweep.yaml").unlink()
    (folder / "sweep.yaml").symlink_to(secret)
    assert "holds the sweep 'another'" in cnngrid("run", sweep, "--local").stderr


OWN_CODE = """
from pathlib import Path
from torch import nn
import numpy as np
Path("imported").touch()
def build(classes): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(classes))
def data():
    images, labels = np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2
    return images, labels, images, labels, ("a", "b")
"""


def change_row(folder: Path, config: dict[str, Any], **columns: Any) -> str:
    """Change the only trial of a results folder as a stranger could; return its id."""
    [file] = (folder / "trials").iterdir()
    table = pq.read_table(file)
    [row] = table.to_pylist()
    config = {**json.loads(row["config"]), **config}
    row = {**row, "config": json.dumps(config), "data_fingerprint": None, **columns}
    pq.write_table(pa.Table.from_pylist([row], schema=table.schema), file)
    for table_name in ("plan", "asked"):
        shutil.rmtree(folder / table_name, ignore_errors=True)
    return str(row["trial_id"])


@pytest.fixture
def one_trial(write_sweep: Write, tmp_path: Path, data_dir: Path) -> Path:
    """The sweep file of a folder `small` with one finished trial."""
    sweep = write_sweep(
        compare={"arch": ["mobilenet_small"]},
        fixed={"epochs": 1, "lr": 0.05, "image_size": 16},
        seeds=[0],
    )
    run_local(sweep, tmp_path, data_dir)
    return sweep


@pytest.mark.slow
def test_explain_calls_functions_that_a_folder_names_only_when_it_is_trusted(
    one_trial: Path, tmp_path: Path, cnngrid: Command
) -> None:
    (tmp_path / "others_code.py").write_text(OWN_CODE)
    for named, value in (
        ("arch", "others_code:build"),
        ("dataset", "others_code:data"),
        ("arch", "torch.hub:load"),
    ):
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "small", folder)
        change_row(folder, {named: value})
        refused = cnngrid("explain", folder, "receptive-field")
        assert refused.returncode == 2
        assert f"needs {value}" in refused.stderr
        assert "give --trust" in refused.stderr
        assert not (tmp_path / "imported").exists()
        if named == "arch" and value.startswith("others_code"):
            trusted = cnngrid("explain", folder, "receptive-field", "--trust")
            assert trusted.returncode == 0, trusted.stderr
            (tmp_path / "imported").unlink()
            sys.modules.pop("others_code")
        shutil.rmtree(folder)


@pytest.mark.slow
def test_control_characters_of_a_folder_never_reach_the_terminal(
    one_trial: Path, tmp_path: Path, cnngrid: Command
) -> None:
    folder = tmp_path / "small"
    bad = "a\x1b[31m\x07\r\x9b\x7f\u202eb"
    trial_id = change_row(
        folder, {"arch": bad}, trial_id=bad, arch=bad, host=bad, reason=f"{bad}\n{bad}"
    )
    (folder / "run" / "trials").mkdir(parents=True, exist_ok=True)
    claim = {"host": bad, "device": bad, "epoch": 1, "epochs": 2, "heartbeat": time.time()}
    (folder / "run" / "trials" / f"{bad}x.json").write_text(json.dumps(claim))
    driver = {"host": bad, "pid": 1, "heartbeat": time.time(), "started_at": 0.0}
    (folder / "run" / "driver.json").write_text(json.dumps(driver))
    (folder / "trials" / f"{bad}.parquet").write_text("damaged")
    question = ("SELECT trial_id, arch, host, reason FROM trials",)
    file = tmp_path / "answer.csv"
    assert cnngrid("sql", folder, *question, "--format", "csv", "-o", file).returncode == 0
    assert bad.encode() in file.read_bytes()
    printed = []
    for words in (
        ("status", folder),
        ("status", folder, "--json"),
        ("logs", folder, trial_id),
        ("explain", folder, "samples"),
        *(("table", folder, name) for name in ("comparison", "failures")),
        *(("sql", folder, *question, "--format", kind) for kind in ("table", "csv", "json")),
        ("run", one_trial, "--local", "--results", tmp_path),
    ):
        if "run" in words:
            (folder / "run" / "driver.json").unlink()  # else it waits whether that driver lives
        result = cnngrid(*words)
        assert "Traceback" not in result.stderr, words
        printed.append(result.stdout + result.stderr)
        assert not set(printed[-1]) & set("\x1b\x07\r\x9b\x7f\u202e"), words
    assert "a\\x1b[31m\\x07\\x0d\\u009b\\u007f\\u202eb" in printed[2]


@pytest.mark.slow
def test_an_id_in_a_table_is_no_path_to_other_files(
    one_trial: Path, tmp_path: Path, cnngrid: Command
) -> None:
    (tmp_path / "secret.log").write_text("secret")
    trial_id = change_row(tmp_path / "small", {}, trial_id="../../secret")
    before = sorted(tmp_path.rglob("*"))
    for words in (("logs", "small", trial_id), ("explain", "small", "enhancement")):
        result = cnngrid(*words)
        assert result.returncode == 2
        assert "'../../secret' is not an id" in result.stderr
        assert "secret\n" not in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.soak
@pytest.mark.slow
def test_tables_of_garbage_are_left_out_and_named(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command
) -> None:
    sweep = write_sweep(seeds=[0])
    run_local(sweep, tmp_path, data_dir)
    folder = tmp_path / "small"
    before = metrics(folder)
    good = pq.read_table(next((folder / "trials").glob("*.parquet")))
    framed = b"PAR1" + bytes(range(1, 65)) + (32).to_bytes(4, "little") + b"PAR1"
    for table in ("trials", "epochs", "paused", "asked", "plan", "classes"):
        (folder / table).mkdir(exist_ok=True)
        (folder / table / "a.parquet").write_bytes(bytes(range(256)))
        (folder / table / "b.parquet").write_bytes(framed)
        pq.write_table(pa.table({"x": [1]}), folder / table / "c.parquet")
    wrong = good.set_column(good.schema.get_field_index("val_top1"), "val_top1", pa.array(["high"]))
    pq.write_table(wrong, folder / "trials" / "d.parquet")
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "driver.json").write_text("[1, 2")
    os.utime(folder / "run" / "driver.json", (0, 0))
    result = cnngrid("run", sweep, "--local", "--results", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "nothing to do" in result.stdout
    for words in (("status", folder), ("table", folder, "comparison"), ("report", folder)):
        result = cnngrid(*words)
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
    after = metrics(folder)
    ids = {row["trial_id"] for row in before["trials"]}
    for table, rows in before.items():
        assert [row for row in after[table] if row["trial_id"] in ids] == rows


@pytest.mark.parametrize("words", [("plan", "x", "--", "\ud7fc"), ("pl\x1b[31man",)])
def test_wrong_arguments_are_named_in_characters_that_can_be_shown(
    cnngrid: Command, words: tuple[str, ...]
) -> None:
    refused = cnngrid(*words)
    assert refused.returncode == 2
    assert all(line.isprintable() for line in refused.stderr.splitlines())
    assert repr(words[-1])[1:-1] in refused.stderr
