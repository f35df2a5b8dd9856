"""`cnngrid launch slurm` without a Slurm: refusals, and the job that a fake sbatch gets."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a fake Slurm on the path that accepts every job."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"sbatch": "echo 17", "squeue": "echo Priority"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))


def test_a_dry_run_prints_the_script_and_writes_nothing(
    cnngrid: Command, write_sweep: Write, tmp_path: Path
) -> None:
    result = cnngrid("launch", "slurm", write_sweep(), "--nodes", "2", "--dry-run",
                   "--set", "epochs=1")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("#!/bin/bash\n# The sweep small-")
    assert "\n#SBATCH --nodes=2\n" in result.stdout
    assert "--set epochs=1)" in result.stdout
    assert not (tmp_path / "results").exists()


def test_a_launch_prints_the_commands_to_type_next(
    cnngrid: Command, write_sweep: Write, tmp_path: Path, sbatch: None
) -> None:
    sweep = write_sweep()
    result = cnngrid("launch", "slurm", sweep)
    assert result.returncode == 0, result.stderr
    lines = [line.partition("#")[0].strip() for line in result.stdout.splitlines()]
    assert lines == [
        "job 17: The sweep small, 4 trials, on 1 node.",
        "cnngrid status results/small",
        "squeue --jobs 17",
        "tail -F results/small/logs/slurm-17.log",
        "scancel 17",
    ]
    folder = tmp_path / "results" / "small"
    (script,) = folder.glob("run/slurm/*/job.sh")
    assert script.stat().st_mode & 0o777 == 0o700
    assert script.parent.stat().st_mode & 0o777 == 0o700
    # A copy: later edits of the sweep file do not change the job.
    copy = script.with_name("sweep.yaml")
    assert copy.read_text() == sweep.read_text()
    assert str(copy) in script.read_text()


def test_the_jobs_of_an_array_share_the_sweep(cnngrid: Command, write_sweep: Write) -> None:
    result = cnngrid("launch", "slurm", write_sweep(), "--array", "3", "--dry-run")
    assert "4 trials, shared by 3 jobs on 1 node.\n" in result.stdout
    assert " --share)\n" in result.stdout


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--gpus-per-node", "a100:2"), "--gpus-per-node=a100:2"),
        (("--extra=--gres=gpu:a100:2",), "--gres=gpu:a100:2"),
        (("--gpus-per-node", "2", "--extra=--gres=gpu:a100:2"), "--gres=gpu:a100:2"),
    ],
)
def test_ray_is_told_of_gpus_however_slurm_is_asked_for_them(
    cnngrid: Command, write_sweep: Write, words: tuple[str, ...], asked: str
) -> None:
    script = cnngrid("launch", "slurm", write_sweep(), "--dry-run", *words).stdout
    assert "export cpus=2 gpus=2\n" in script
    assert [line for line in script.splitlines() if "#SBATCH --g" in line] == [f"#SBATCH {asked}"]


def test_a_node_gets_cores_for_all_trials_on_its_gpus(cnngrid: Command, write_sweep: Write) -> None:
    sweep = write_sweep(resources={"cpus": 2, "gpus": 0.3})
    script = cnngrid("launch", "slurm", sweep, "--dry-run", "--gpus-per-node", "2").stdout
    assert "export cpus=12 gpus=2\n" in script  # three trials on each GPU


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"seeds": []}, (), "sweep.yaml"),
        ({"resources": {"cpus": 4}}, ("--cpus-per-node", "2"), "a trial wants 4 CPU cores"),
        ({"resources": {"gpus": 1}}, (), "--gpus-per-node 0: a trial wants 1 GPUs"),
        ({}, ("--gpus-per-node", "two"), "--gpus-per-node two: want a number of GPUs"),
        ({}, ("--gpus-per-node", "1", "--extra=--gres=gpu:2"), "asks for 2 GPUs on each node"),
        ({}, ("--extra=-N 2",), "--extra -N: the job must know it; give --nodes instead"),
        ({}, ("--env-setup", "gone.sh"), "--env-setup gone.sh: no such file"),
        ({}, ("--extra", "--mem=4G\n#SBATCH --uid=0"), "must be one line"),
    ],
)
def test_a_job_that_cannot_run_is_refused_before_submission(
    cnngrid: Command,
    write_sweep: Write,
    tmp_path: Path,
    sbatch: None,
    changes: dict[str, object],
    words: tuple[str, ...],
    message: str,
) -> None:
    result = cnngrid("launch", "slurm", write_sweep(**changes), *words)
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "results").exists()


def test_without_slurm_no_files_remain(
    cnngrid: Command, write_sweep: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = cnngrid("launch", "slurm", write_sweep())
    assert (result.returncode, result.stdout) == (2, "")
    assert "no sbatch on the path" in result.stderr
    assert not list((tmp_path / "results").glob("small/run/slurm/*"))
