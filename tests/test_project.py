"""The project as a whole: imports, public names, the wheel, README and docs."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.object_store import object_store
from tests.small_sweeps import call_main

ROOT = Path(__file__).resolve().parent.parent
CHARTS = (
    *("bars", "confusion", "curves", "enhancement", "ranks", "scatter", "scatter_plot", "tuning"),
    *("parts/encodings", "parts/style"),
)
PACKAGES = ("analysis", "cluster", "cnncore", "grid")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import grid, analysis", ("torch", "ray", "duckdb", "altair", "optuna")),
        ("import grid.cli.app", ("torch", "ray", "duckdb", "altair", "optuna")),
        ("import grid.run.session, grid.api", ("torch", "ray", "optuna")),
        (
            "import analysis.results.database, analysis.tables.catalog, analysis.charts.catalog",
            ("torch", "ray", "optuna"),
        ),
        ("import grid.run.local, grid.trial.trial", ("ray", "torchvision")),
        ("import cnncore.config, cnncore.catalog, cnncore.data", ("torch", "ray")),
    ],
)
def test_importing_loads_nothing_heavy(code: str, absent: tuple[str, ...]) -> None:
    check = f"{code}; import sys; print([m for m in {absent} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr


def test_everything_is_printed_by_way_of_the_screen() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path == ROOT / "grid" / "screen.py" or path.name == "svg.py":
                continue  # the second prints in a process of its own
            for word in ("print", "Console"):
                used = re.search(rf"(?<![\w.\"`]){word}\(", text)
                door = re.search(rf"^from grid\.screen import .*\b{word}\b", text, re.MULTILINE)
                assert not used or door, f"{path}: {word}"
            assert not re.search(r"std(out|err)\.write\(|print_exc\(", text), path


def test_heavy_libraries_have_one_door() -> None:
    doors = {
        # The last two join a cluster and hand jobs to one, before or without any trial.
        "ray": {"grid/run/ray_tune/tune.py", "grid/run/ray_tune/cluster.py", "cluster/ray_jobs.py"},
        "optuna": {"grid/search/study.py"},
        "duckdb": {f"analysis/results/{name}.py" for name in ("database", "query", "table_files")},
        "altair": {
            "analysis/charts/figure_formats.py",
            *(f"analysis/charts/{name}.py" for name in CHARTS),
        },
        # analysis/results/bucket.py: its filesystems are the one way into an object store.
        "pyarrow": {
            *("grid/store/records.py", "grid/store/parquet.py"),
            "analysis/results/bucket.py",
            "cnncore/data/folders/parquet_rows.py",
        },
    }
    users: dict[str, set[str]] = {name: set() for name in doors}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for line in path.read_text().splitlines():
                match = re.match(r"\s*(?:import|from)\s+(\w+)", line)
                if match and match.group(1) in users:
                    users[match.group(1)].add(str(path.relative_to(ROOT)))
    assert users == doors


# The name that a distribution is imported by, if it differs from its own.
IMPORT_NAMES = {
    "huggingface-hub": "huggingface_hub",
    "nvidia-ml-py": "pynvml",
    "pillow": "PIL",
    "ruamel.yaml": "ruamel",
    "scikit-learn": "sklearn",
    "vl-convert-python": "vl_convert",
}
# Imported by another dependency only.
INDIRECT = {"cmaes"}


def importers() -> dict[str, set[str]]:
    """Return the files of our packages that import a library, by the library's import name."""
    files: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                modules = (
                    [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                )
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules = [node.module]
                for module in modules:
                    top = module.partition(".")[0]
                    if top not in (*PACKAGES, *sys.stdlib_module_names):
                        files.setdefault(top, set()).add(path.relative_to(ROOT).as_posix())
    return files


def test_every_dependency_names_the_files_that_import_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = text.partition("\ndependencies = [")[2].partition("\n]")[0]
    listed += text.partition("\ntimm = [")[2].partition("\n]")[0]
    lines = re.findall(r'^    "([\w.-]+)[^"]*",\s+# ([^:\n]+)', listed, re.MULTILINE)
    assert len(lines) == len(listed.strip().splitlines())
    imported = importers()
    declared = {IMPORT_NAMES.get(name, name) for name, _ in lines}
    assert not set(imported) - declared
    for name, comment in lines:
        places = [place.strip() for place in comment.split(",")]
        files = imported.get(IMPORT_NAMES.get(name, name), set())
        for place in places:
            assert (ROOT / place).exists(), f"{name}: {place}"
            inside = [file for file in files if f"{file}/".startswith(f"{place}/")]
            assert inside or name in INDIRECT, f"{name} is not imported in {place}"
        for file in files:
            assert any(f"{file}/".startswith(f"{place}/") for place in places), f"{name}: {file}"


def test_public_names_are_there() -> None:
    import analysis
    import grid
    from cnncore.complexity import count_parameters
    from cnncore.models import build_model

    assert count_parameters(build_model("cnn3", classes=10, image_size=32)).trainable > 0

    for module in (grid, analysis):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError):
            _ = module.no_such_name


def test_the_wheel_holds_exactly_the_four_packages(tmp_path: Path) -> None:
    # Built from a copy of the files that git tracks or would track, so that stray files show.
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (tmp_path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "src" / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, "src"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, *(top for top in tops if top.endswith(".dist-info"))}
    shipped = {str(p.relative_to(ROOT)) for p in (ROOT / "grid" / "presets").glob("*.yaml")}
    shipped |= {str(path.relative_to(ROOT)) for path in (ROOT / "analysis").rglob("*.sql")}
    shipped |= {str(path.relative_to(ROOT)) for path in (ROOT / "analysis").rglob("*.html")}
    shipped |= {str(path.relative_to(ROOT)) for path in (ROOT / "analysis").rglob("*.csv")}
    shipped |= {
        "grid/template.yaml",
        "cluster/slurm_job.sh",
        "cluster/ray_job.sh",
        *(f"{package}/__init__.py" for package in PACKAGES),
    }
    assert shipped <= names, shipped - names


def test_readme_shows_both_commands_first() -> None:
    head = (ROOT / "README.md").read_text().splitlines()[:25]
    assert any("make demo" in line for line in head)
    assert any("make test" in line for line in head)
    assert any(line.startswith("![") for line in head)


def test_links_in_the_documents_resolve() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


# Places that the design reserves for later parts.
PLANNED = {"grid/serve/", "analysis/export/", "grid/code/", "cnncore/fused/"}
PLANNED |= {"grid/trial/fused.py", "grid/run/packing.py"}


def test_files_and_folders_named_in_the_documents_exist() -> None:
    named = 0
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        text = document.read_text(encoding="utf-8")
        pattern = rf"`((?:{'|'.join(PACKAGES)}|tests|benchmarks|docs)/[\w./-]*)`"
        for path in set(re.findall(pattern, text)) - PLANNED:
            named += 1
            assert (ROOT / path).exists(), f"{document.name}: {path}"
    assert named > 40


def blocks(document: Path, *kinds: str) -> list[str]:
    """Return the texts of a document's fenced blocks of these kinds."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    return [text for kind, text in fences if kind in kinds]


def test_sweep_files_in_the_documents_are_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grid import load_sweep, make_plan

    monkeypatch.setattr(sys, "path", [*sys.path])  # a plan adds the sweep file's folder
    checked = 0
    for document in DOCUMENTS:
        for text in blocks(document, "py"):
            if name := re.match(r"# (\w+\.py)\n", text):
                (tmp_path / name.group(1)).write_text(text)
        for text in blocks(document, "yaml"):
            if text.startswith("sweep:"):
                path = tmp_path / "sweep.yaml"
                path.write_text(text)
                make_plan(load_sweep(path), data_dir=tmp_path)
                checked += 1
    assert checked


@pytest.mark.slow
@pytest.mark.soak
def test_the_record_of_the_studies_is_what_the_kept_results_say() -> None:
    code = "import runpy; print(runpy.run_path('docs/studies.py')['document'](), end='')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout == (ROOT / "docs" / "studies.md").read_text(encoding="utf-8"), (
        result.stderr
    )


# These train for minutes and more; docs/cifar10-quick.md and docs/studies.md are their records.
NOT_RUN = ("cnngrid run cifar10-quick", "cnngrid run docs/runs/")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An object store with the address that documents use for results."""
    with object_store("my-bucket") as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield "s3://my-bucket/cnngrid"


@pytest.mark.soak
@pytest.mark.slow
def test_every_command_of_the_documents_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    """In the order of each document, on a digits sweep that was run for one epoch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNGRID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "160")

    def call(line: str) -> subprocess.CompletedProcess[str]:
        return call_main(*shlex.split(line)[1:])

    for name in ("digits", "cifar10-quick"):  # the folders that the documents ask
        (tmp_path / f"{name}.yaml").write_text(
            json.dumps(
                {
                    "sweep": name,
                    "compare": {"arch": ["cnn3", "mobilenet_small"], "optimizer": ["sgd", "adam"]},
                    "fixed": {
                        "dataset": "digits",
                        "image_size": 32,
                        "lr": 0.01,
                        "epochs": 1,
                        "limit_train": 64,
                        "limit_test": 40,
                    },
                }
            )
        )
        assert call(f"cnngrid run {name}.yaml --local").returncode == 0
    assert call(f"cnngrid run digits.yaml --local --results {bucket}").returncode == 0
    ran = 0
    for document in DOCUMENTS:
        if document.name == "your-own.md":  # `tests/test_your_own.py` runs it
            continue
        for text in blocks(document, "", "sh", "bash", "console"):
            for line in text.replace("\\\n", " ").splitlines():
                line = line.removeprefix("$ ").split("  #")[0].strip()
                if not line.startswith("cnngrid ") or line.startswith(NOT_RUN):
                    continue
                if re.match(r"cnngrid [A-Z]", line) or "SWEEP" in line or "RESULTS" in line:
                    continue  # a form, not a command
                words = shlex.split(line)
                if words[1] == "launch":  # there may be no Slurm here, and no Ray cluster
                    line = shlex.join([*words, "--dry-run"])
                if words[1] == "run":
                    if "--address" in words:
                        del words[(at := words.index("--address")) : at + 2]
                    words[2] = {"digits": "digits.yaml"}.get(words[2], words[2])
                    local = () if "--local" in words else ("--local",)
                    few = ("--set", "limit_train=64", "--set", "limit_test=40")
                    line = shlex.join([*words, *few, *local])
                result = call(line)
                assert result.returncode == 0, f"{document.name}: {line}\n{result.stderr}"
                ran += 1
        for code in blocks(document, "python"):
            result = subprocess.run(
                [sys.executable, "-c", code],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, f"{document.name}:\n{code}\n{result.stderr}"
            ran += 1
    assert ran >= 14  # ten in README, the rest in docs
