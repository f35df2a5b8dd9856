"""The text of a job's script, its submission with a fake `sbatch`, and private files."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.gpus import gpus_of_options
from cluster.job import Allocation, Job
from cluster.security import write_private, write_token
from cluster.slurm import sbatch_script, submit

HERE = Path(__file__).parent

JOB = Job(
    name="lr-and-width",
    title="The sweep lr-and-width, 24 trials, on 2 nodes.",
    command=("cnngrid", "run", "/home/me/results/lr-and-width/run/slurm/1/sweep.yaml"),
    allocation=Allocation(
        nodes=2,
        cpus_per_node=16,
        gpus_per_node=4,
        gpu_request="a100:4",
        time="8:00:00",
        partition="gpu",
        account="vision",
        qos="long",
        constraint="a100",
        extra=("--mem=64G", "--mail-type=END"),
    ),
    folder=Path("/home/me/results/lr-and-width/run/slurm/1"),
    start_in=Path("/home/me"),
    logs=Path("/home/me/results/lr-and-width/logs"),
    shared=(Path("/home/me"), Path("/data")),
    progress=(Path("/home/me/results/lr-and-width/trials"),),
    python=Path("/home/me/venv/bin/python"),
    env_setup=Path("/home/me/modules.sh"),
)


def options(job: Job) -> list[str]:
    lines = sbatch_script(job).splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]


def test_the_script_is_the_recorded_one() -> None:
    recorded = HERE / "job.sh"
    text = sbatch_script(JOB)
    if os.environ.get("CNNGRID_RECORD"):
        recorded.write_text(text)
    assert text == recorded.read_text()


def test_bash_reads_the_script() -> None:
    result = subprocess.run(["bash", "-n", HERE / "job.sh"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_options_that_are_not_set_are_not_in_the_script() -> None:
    small = replace(JOB, allocation=Allocation(), env_setup=None)
    names = {option.partition("=")[0] for option in options(small)}
    absent = {
        "--array",
        "--time",
        "--partition",
        "--account",
        "--qos",
        "--constraint",
        "--gpus-per-node",
    }
    assert not names & {*absent, "--no-kill"}
    assert "source" not in sbatch_script(small)


def test_the_jobs_of_an_array_have_logs_of_their_own() -> None:
    array = options(replace(JOB, allocation=Allocation(array=3)))
    assert "--array=1-3" in array
    assert "--output=/home/me/results/lr-and-width/logs/slurm-%A_%a.log" in array


def test_names_with_blanks_and_signs_stay_whole(tmp_path: Path) -> None:
    folder = tmp_path / "it's 5% of $HOME #1"
    job = replace(JOB, logs=folder, folder=folder, env_setup=None)
    doubled = str(folder).replace("%", "%%")
    assert f'--output="{doubled}/slurm-%j.log"' in options(job)
    settings = sbatch_script(job).partition("# ----")[0]
    result = subprocess.run(
        ["bash", "-c", f'{settings}\nprintf %s "$folder"'], capture_output=True, text=True
    )
    assert result.stdout == str(folder)


@pytest.mark.parametrize("field", ["partition", "time", "account"])
def test_an_option_cannot_begin_another_line(field: str) -> None:
    changed: Any = {field: "gpu\n#SBATCH --uid=0"}
    allocation = replace(JOB.allocation, **changed)
    with pytest.raises(ValueError, match="must be one line"):
        sbatch_script(replace(JOB, allocation=allocation))


def test_gpus_are_counted_in_the_options_that_ask_for_them() -> None:
    counts = {
        "--gres=gpu:a100:2": 2,
        "--gres gpu:2": 2,
        "--gres=gpu": 1,
        "--gres=gpu:a100": 1,
        "--gres=lustre:1,gpu:a100:1(S:0,1),gpu:1g.5gb:3": 4,
        "--gres=gres/gpu:2": 2,
        "--tres-per-node=gres/gpu=2": 2,
        "--gres=shard:4": 1,
        "--gpus-per-task=a100:2": 2,
        "--mem=4G --gres='gpu:3'": 3,
        "--gres=none": None,
        "--mem=4G": None,
    }
    assert {option: gpus_of_options([option]) for option in counts} == counts
    for unknown in ("--gpus=4", "-G4", "-G a100:4"):
        with pytest.raises(ValueError, match="how many GPUs a node has"):
            gpus_of_options([unknown])


def test_a_machine_without_slurm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no sbatch on the path"):
        submit(tmp_path / "job.sh")


def test_the_message_of_slurm_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "sbatch"
    fake.write_text("#!/bin/sh\necho 'sbatch: error: no allocation left' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "job.sh").touch()
    with pytest.raises(ClusterError, match=r"^sbatch: error: no allocation left$"):
        submit(tmp_path / "job.sh")


def test_the_id_is_read_without_the_clusters_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"sbatch": "echo '17;west'", "squeue": "echo Priority"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "job.sh").touch()
    assert submit(tmp_path / "job.sh") == "17"


def test_the_job_around_gives_no_orders_to_a_new_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\n/usr/bin/env > {tmp_path}/env\necho 17\n")
    (tmp_path / "squeue").write_text("#!/bin/sh\necho Priority\n")
    for name in ("sbatch", "squeue"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sh").write_text("#!/bin/bash\n#SBATCH --partition=gpu\n")
    orders = {
        name: "7"
        for name in (
            *("SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_CPU_BIND"),
            *("SBATCH_MEM_PER_NODE", "SBATCH_PARTITION", "SRUN_CPUS_PER_TASK", "SQUEUE_STATES"),
            *("PMI_RANK", "PMIX_RANK", "OMPI_MCA_rmaps", "CUDA_VISIBLE_DEVICES"),
        )
    }
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "t", "SBATCH_ACCOUNT": "vision", "A": "b"}
    for name, value in {**orders, **kept, "PATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    submit(tmp_path / "job.sh")
    given = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert not set(given) & set(orders)
    assert {name: given.get(name) for name in kept} == kept


def test_a_token_is_new_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_token(tmp_path / "a")
    finally:
        os.umask(before)
    write_token(tmp_path / "b")
    texts = [(tmp_path / name).read_text() for name in "ab"]
    assert texts[0] != texts[1]
    assert {len(text) for text in texts} == {64}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_token_does_not_replace_a_file_or_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("somebody else's")
    for name in ("link", "file"):
        with pytest.raises(FileExistsError):
            write_token(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "file").read_text() == "somebody else's"


def test_only_the_owner_may_run_a_script(tmp_path: Path) -> None:
    write_private(tmp_path / "job.sh", "#!/bin/sh\n", mode=0o700)
    assert (tmp_path / "job.sh").stat().st_mode & 0o777 == 0o700
