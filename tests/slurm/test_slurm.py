"""Sweeps launched on a real Slurm of two nodes."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from grid.store.folder import Store
from tests.slurm.testbed import TESTBED, NoSlurmError, Slurm, two_nodes
from tests.small_sweeps import metrics, trial_rows

# Set if a skipped test must count as a failure.
REQUIRED = "CNNGRID_REQUIRE_SLURM"

pytestmark = [pytest.mark.soak, pytest.mark.slurm, pytest.mark.ray, pytest.mark.slow]

# The environment sets the time of a step, so that a sweep takes equally long on any machine. In
# MEET each host leaves its name, and trials wait for two: one node alone would otherwise end all
# of them before a slow second one is ready.
SLOW_NETWORK = """
import os, socket, time
from pathlib import Path
from torch import nn

def meet(folder):
    (folder / socket.gethostname()).touch()
    end = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.2)

class Slow(nn.Sequential):
    def forward(self, images):
        if self.training:
            if "MEET" in os.environ:
                meet(Path(os.environ["MEET"]))
            time.sleep(float(os.environ.get("STEP_S", "0")))
        return super().forward(images)

def network(classes):
    return Slow(nn.Flatten(), nn.Linear(192, classes))
"""


@pytest.fixture
def slurm(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    give_up = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
    if os.getuid() != 0:
        give_up("slurm-testbed needs root")
    try:
        with two_nodes(tmp_path, tmp_path_factory.getbasetemp() / "data") as running:
            yield running
    except NoSlurmError as missing:
        give_up(f"no Slurm: {missing}")


def write_sweep(folder: Path, name: str, **changes: Any) -> None:
    (folder / "slow.py").write_text(SLOW_NETWORK)
    content: dict[str, Any] = {
        "sweep": name,
        "compare": {"arch": ["slow:network"], "lr": [0.1, 0.01]},
        "fixed": {
            "dataset": "digits",
            "image_size": 8,
            "optimizer": "sgd",
            "epochs": 3,
            "limit_train": 96,
            "limit_test": 40,
            "batch_size": 32,
            "augment": ["crop"],
        },
        "checkpoint_s": 0.5,
    }
    content["fixed"] = {**content["fixed"], **changes.pop("fixed", {})}
    (folder / f"{name}.json").write_text(json.dumps({**content, **changes}))


def meeting(slurm: Slurm) -> dict[str, str]:
    """Return the environment by which trials wait until both nodes train one."""
    if not slurm.nodes_are_isolated:
        return {}
    (slurm.folder / "meet").mkdir()
    return {"MEET": str(slurm.folder / "meet")}


def local_metrics(slurm: Slurm, name: str) -> dict[str, list[dict[str, Any]]]:
    slurm.call("cnngrid", "run", f"{name}.json", "--local", "--results", "local")
    return metrics(slurm.folder / "local" / name)


def hosts(folder: Path) -> set[str]:
    from analysis import open_results
    from analysis.results.database import rows

    return {row["host"] for row in rows(open_results(folder), "SELECT host FROM trials")}


def test_a_sweep_on_two_nodes_and_its_secrets(slurm: Slurm) -> None:
    write_sweep(slurm.folder, "two", seeds=[0, 1])
    folder = slurm.folder / "results" / "two"
    words = ("two.json", "--nodes", "2", "--time", "10:00")
    job = slurm.launch(*words, STEP_S="0.1", **meeting(slurm))
    # Later edits of the file do not change a job that waits.
    (slurm.folder / "two.json").rename(slurm.folder / "edited.json")
    slurm.wait("the first trial", lambda: list((folder / "run" / "trials").glob("*.json")))

    (script,) = folder.glob("run/slurm/*/job.sh")
    (token,) = folder.glob("run/slurm/*/token-*")
    secret = token.read_text()
    assert len(secret) == 64
    assert [path.stat().st_mode & 0o777 for path in (script, token)] == [0o700, 0o600]
    for node in ("node1", "node2"):
        assert "raylet" in slurm.on_node(node, "ps", "axww")
        if slurm.nodes_are_isolated:
            read = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true"
            assert secret not in slurm.on_node(node, "sh", "-c", read)
            listening = slurm.on_node(node, "ss", "-ltnH")
            ports = {line.split()[3].rpartition(":")[2] for line in listening.splitlines()}
            # The dashboard, Ray's client server and the dashboard's agent: open by default.
            assert not ports & {"8265", "10001", "52365"}
    address = re.search(r"--address (\S+)", slurm.on_node("node1", "ps", "axww")).group(1)
    join = (sys.executable, "-c", f"import ray; ray.init({address!r})")
    strangers = [
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
    ]
    with ThreadPoolExecutor() as pool:
        for refused in pool.map(
            lambda stranger: slurm.run(
                str(TESTBED), "exec", "node2", "timeout", "20", *join, **stranger
            ),
            strangers,
        ):
            assert refused.returncode
            assert "InvalidAuthToken" in refused.stderr

    slurm.wait("the end of the job", lambda: slurm.state(job) not in ("RUNNING", "COMPLETING"))
    assert slurm.state(job) == "COMPLETED", slurm.log("results/two", job)
    (slurm.folder / "edited.json").rename(slurm.folder / "two.json")
    assert metrics(folder) == local_metrics(slurm, "two")
    if slurm.nodes_are_isolated:
        assert hosts(folder) == {"node1", "node2"}
        # Ray's agents exit a little later than their raylet.
        for node in ("node1", "node2"):
            slurm.wait(f"the end of Ray on {node}", partial(slurm.has_no_ray, node))
    assert not token.exists()
    assert not slurm.temporary_files()
    for path in folder.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_two_jobs_share_a_sweep(slurm: Slurm) -> None:
    write_sweep(slurm.folder, "shared", seeds=[0, 1, 2], fixed={"epochs": 6})
    folder = slurm.folder / "results" / "shared"
    words = ("shared.json", "--array", "2", "--cpus-per-node", "3", "--time", "10:00")
    job = slurm.launch(*words, STEP_S="0.3", **meeting(slurm))
    jobs = [f"{job}_{place}" for place in (1, 2)]
    for one in jobs:
        slurm.wait(f"the end of {one}", partial(slurm.completed, one))
        assert "ended with exit code 0" in slurm.log("results/shared", one)
    assert metrics(folder) == local_metrics(slurm, "shared")
    assert {row["attempt"] for row in Store(folder).epochs()} == {1}, "a trial was run twice"
    if slurm.nodes_are_isolated:
        assert hosts(folder) == {"node1", "node2"}
    assert not list(folder.glob("run/slurm/*/token-*"))
    assert not list((folder / "run" / "taken").iterdir())
    assert not slurm.temporary_files()


def test_requeued_at_the_time_limit_then_cancelled_then_finished(slurm: Slurm) -> None:
    write_sweep(slurm.folder, "cut", seeds=[0, 1, 2, 3, 4], fixed={"epochs": 12})
    folder = slurm.folder / "results" / "cut"

    def finished_trials() -> int:
        return len(Store(folder).finished())

    words = ("cut.json", "--cpus-per-node", "2")
    job = slurm.launch(*words, "--time", "10", "--stop-before", "15", STEP_S="0.7")
    slurm.wait("an epoch", lambda: Store(folder).epochs())
    # Limits are whole minutes: the first that leaves a few seconds from now.
    minutes = (slurm.runs_for_s(job) + 20) // 60 + 1
    slurm.call("scontrol", "update", f"jobid={job}", f"TimeLimit={minutes}")
    slurm.wait("the requeueing", lambda: "\ncnngrid: requeued: " in slurm.log("results/cut", job))
    slurm.wait("the end of the first run", lambda: slurm.state(job) == "PENDING")
    first = finished_trials()
    assert first < 10
    assert not list(folder.glob("run/slurm/*/token-*"))
    # The job runs the code that was there when it was submitted.
    (slurm.folder / "slow.py").write_text("raise SystemExit('edited meanwhile')\n")

    # Slurm itself would wait for two minutes; an immediate restart fails on the old credential.
    slurm.call("scontrol", "update", f"jobid={job}", "StartTime=now+5", "TimeLimit=10")
    slurm.wait("another trial", lambda: finished_trials() > first)
    assert ", run 2" in slurm.log("results/cut", job)
    slurm.call("scancel", job)
    slurm.wait("the end of the job", lambda: slurm.state(job) == "CANCELLED")
    assert first < finished_trials() < 10
    (slurm.folder / "slow.py").write_text(SLOW_NETWORK)

    last = slurm.launch(*words, "--time", "10:00")
    slurm.wait("the end", lambda: slurm.state(last) == "COMPLETED")
    attempts = {row["attempt"] for row in Store(folder).epochs()}
    assert attempts > {1}, "nothing went on from a checkpoint"
    assert metrics(folder) == local_metrics(slurm, "cut")
    assert not slurm.temporary_files()


def test_neither_the_job_around_nor_the_setup_file_gives_orders(slurm: Slurm) -> None:
    only = {"compare": {"arch": ["slow:network"]}, "fixed": {"lr": 0.1}, "resources": {"gpus": 0}}
    write_sweep(slurm.folder, "foreign", **only)
    networks, wrong = slurm.folder / "networks", slurm.folder / "wrong"
    for folder in (networks, wrong):
        folder.mkdir()
    # The network is found on the path that the file sets; the other Python and its torch are not.
    (slurm.folder / "slow.py").rename(networks / "slow.py")
    (wrong / "torch.py").write_text("raise SystemExit('the torch of another Python')")
    (wrong / "python3").symlink_to("/bin/false")
    (wrong / "python").symlink_to("/bin/false")
    (slurm.folder / "setup.sh").write_text(
        f"""set -euo pipefail
        export PATH={wrong}:$PATH PYTHONHOME=/nowhere PYTHONPATH={wrong}:{networks}
        cd /
        """
    )
    # As if typed in a task of an array, with little memory and a Ray of its own.
    around = {
        "SLURM_ARRAY_JOB_ID": "4711",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_MEM_PER_CPU": "20",
        "SLURM_CPU_BIND": "mask_cpu:0x100",
        "SLURM_EXPORT_ENV": "NONE",
        "SCANCEL_FULL": "1",
        "RAY_ADDRESS": "127.0.0.1:9",
        "RAY_OVERRIDE_RESOURCES": "{}",
        "OMPI_MCA_x": "1",
    }
    words = ("foreign.json", "--env-setup", "setup.sh", "--extra=--mem=4000", "--time", "10:00")
    login = {"PYTHONPATH": str(networks)}  # the plan needs the network too
    job = slurm.launch(*words, "--extra=--gres=gpu:2", "--cpus-per-node", "2", **login, **around)
    # A script that is submitted by hand has the whole environment of the job around.
    (script,) = (slurm.folder / "results/foreign/run/slurm").glob("*/job.sh")
    slurm.wait("the end of the launched job", partial(slurm.completed, job))
    again = slurm.call("sbatch", "--parsable", str(script), **around).strip()
    slurm.wait("the end of the job again", partial(slurm.completed, again))
    for one in (job, again):
        assert f"cnngrid: job {one} on " in slurm.log("results/foreign", one)
        assert "ended with exit code 0" in slurm.log("results/foreign", one)
    (row,) = trial_rows(slurm.folder / "results/foreign")
    assert row.state == "complete"
    assert not slurm.temporary_files()


def test_what_slurm_refuses_is_said_in_its_words(slurm: Slurm) -> None:
    write_sweep(slurm.folder, "bad")
    impossible = "Requested node configuration is not available"
    for words, message in {
        ("--partition", "nope"): "invalid partition specified: nope",
        ("--cpus-per-node", "5"): impossible,
        ("--gpus-per-node", "3"): impossible,
        ("--nodes", "3"): impossible,
        ("--time", "soon"): "Invalid --time specification",
        ("--extra", "--no-such-option"): "unrecognized option '--no-such-option'",
    }.items():
        result = slurm.run("cnngrid", "launch", "slurm", "bad.json", *words)
        assert result.returncode == 2, words
        assert message in result.stderr, words
        assert "Traceback" not in result.stderr
    assert not slurm.call("squeue", "--noheader")
    assert not list((slurm.folder / "results").glob("bad/run/slurm/*"))


def test_folders_that_a_node_does_not_see_are_found_before_the_first_trial(slurm: Slurm) -> None:
    if not slurm.nodes_are_isolated:
        pytest.skip("nodes share every folder here")
    write_sweep(slurm.folder, "unseen")
    hidden = Path(tempfile.mkdtemp(dir="/dev/shm"))  # each node has one of its own
    try:
        job = slurm.launch("unseen.json", "--nodes", "2", "--data", str(hidden))
        slurm.wait("the end", lambda: slurm.state(job) == "FAILED")
    finally:
        shutil.rmtree(hidden)
    assert f"node2: does not see {hidden}" in slurm.log("results/unseen", job)
