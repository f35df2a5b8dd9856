"""The page `docs/your-own.md`: its modules and sweeps run, and its epochs are what they say."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.processes import run_to_end
from tests.small_sweeps import command, environment, metrics, run_local

PAGE = Path(__file__).resolve().parent.parent / "docs" / "your-own.md"
FEW = {"limit_train": 120, "limit_test": 40}


def blocks(kind: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Write the page's modules and sweeps into a folder, and go there."""
    names = []
    for text in blocks("py"):
        name = re.match(r"# (\w+)\.py\n", text).group(1)
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
    for text in blocks("yaml"):
        name = re.match(r"sweep: ([\w-]+)\n", text).group(1)
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


def results(sweep: Path, **changes):
    """Run a sweep; return its epochs by loss or epoch function, without ids and times."""
    data_dir = sweep.parent / "data"
    summary = run_local(sweep, "results", data_dir, changes={**FEW, **changes})
    assert summary.states == {"complete": summary.planned}
    tables = metrics(summary.folder)
    configs = {row["trial_id"]: row["config"] for row in tables["trials"]}
    found: dict[str, list[dict[str, object]]] = {}
    for row in tables["epochs"]:
        found.setdefault(configs[row.pop("trial_id")], []).append(row)
    return found, Path(summary.folder)


@pytest.mark.slow
def test_every_sweep_of_the_page_runs(page):
    sweeps = sorted(page.glob("*.yaml"))
    assert [p.stem for p in sweeps] == ["first", "losses", "parts", "shapes", "sharpness"]
    for path in (path for path in sweeps if path.stem in ("losses", "sharpness")):
        found, _ = results(path)
        assert len(found) == 3
        curves = [[row["val_loss"] for row in rows] for rows in found.values()]
        assert all(one != other for i, one in enumerate(curves) for other in curves[:i])


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.soak
def test_every_command_of_the_page_runs(page):
    lines = [line for text in blocks("sh") for line in text.splitlines()]
    printed = {}
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "cnngrid"
        done = run_to_end(command(*arguments), page, environment(page / "data"))
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        printed[line] = done.stdout
    text = printed["cnngrid table results/first comparison --format latex"]
    assert r"\begin{tabular}" in text
    assert r"nets:tiny" in text
    assert text.count(r"\\") == 7  # the heads and six cells
    (sql,) = [text for line, text in printed.items() if " sql " in line]
    assert "parts:rare_classes" in sql


def test_sam_and_distillation_without_their_terms_are_the_ordinary_epoch(page):
    (page / "none.py").write_text(
        "import functools, my_distillation, my_epochs\n"
        "sam = functools.partial(my_epochs.sam, rho=0)\n"
        "distill = functools.partial(my_distillation.distill, weight=0)\n"
    )
    text = (page / "sharpness.yaml").read_text()
    teach = text.replace("[null, ", "[null] # ").replace("sharpness", "teacher")
    (page / "teacher.yaml").write_text(teach)
    _, folder = results(page / "teacher.yaml")
    (best,) = folder.glob("checkpoints/*/best.pt")
    shutil.copy(best, page / "teacher.pt")
    own = '[null, "none:sam", "none:distill", "my_distillation:distill"]'
    line = next(line for line in text.splitlines() if "train_epoch" in line)
    compared = text.replace(line, f"  train_epoch: {own}").replace("sharpness", "own")
    (page / "own.yaml").write_text(compared)
    found, _ = results(page / "own.yaml", schedule="cosine", dataset="digits")
    rows = {config.partition("train_epoch")[2][4:20]: epochs for config, epochs in found.items()}
    ordinary = rows.pop("")
    assert len(rows) == 3
    (differs,) = [name for name, epochs in rows.items() if epochs != ordinary]
    assert differs.startswith("my_distillation")
    sys.modules.pop("none", None)
