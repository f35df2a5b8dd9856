"""`cnngrid launch ray` and `run --address`, on a real Ray head with a dashboard; and refusals."""

import http.client
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from analysis import open_results
from analysis.results.database import rows
from cluster.ray_jobs import version_problem
from grid import load_sweep, make_plan
from grid.launch.bundle import PACKAGES, PACKAGES_DIR, pack, user_files
from grid.run.ray_tune.cluster import look, refusal
from tests.processes import run_to_end, wait_for
from tests.small_sweeps import environment, metrics, run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]

NETWORK = """
from layers import flat
def small(classes): return flat(3 * 32 * 32, classes)
"""
LAYERS = """
from torch import nn
def flat(inputs, classes): return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))
"""


@dataclass
class Head:
    """A Ray that another user started: its dashboard, and the file with its token."""

    dashboard: str
    token: Path

    def ask(self, path: str) -> dict[str, str]:
        """Return the answer of the dashboard; empty if there is none."""
        with suppress(OSError):
            return self._ask(path)
        return {}

    def _ask(self, path: str) -> dict[str, str]:
        connection = http.client.HTTPConnection(self.dashboard.removeprefix("http://"), timeout=10)
        headers = {"Authorization": f"Bearer {self.token.read_text()}"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        answer: dict[str, str] = json.loads(response.read()) if response.status == 200 else {}
        return answer


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def other_server() -> Iterator[int]:
    """Run a web server that has nothing to do with Ray; yield its port."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def head(tmp_path: Path, data_dir: Path) -> Iterator[Head]:
    """Start a Ray of one node with a dashboard and a token, outside the folder of this test."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef" * 4)
    scratch = tempfile.mkdtemp(prefix="r")  # Ray's sockets need a short path
    port = free_port()
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2",
         f"--port={free_port()}", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
         f"--dashboard-port={port}", f"--dashboard-agent-listen-port={free_port()}",
         f"--ray-client-server-port={free_port()}", "--disable-usage-stats",
         f"--temp-dir={scratch}"],
        env={**environment(data_dir), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token),
             "RAY_worker_niceness": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=scratch,
        start_new_session=True,
    )  # fmt: skip
    head = Head(f"http://127.0.0.1:{port}", token)
    try:
        wait_for("the dashboard", lambda: head.ask("/api/version"))
        yield head
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        shutil.rmtree(scratch, ignore_errors=True)


def commit_all(folder: Path) -> str:
    """Make a folder a repository, commit its network, return the commit."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        result = subprocess.run(
            ["git", *identity, *words], cwd=folder, capture_output=True, check=True
        )
        return result.stdout.decode().strip()

    git("init")
    git("add", "network.py")
    git("commit", "--message", "a network")
    return git("rev-parse", "HEAD")


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.slow
def test_a_job_takes_code_and_sweep_along_and_gives_the_same_metrics(
    cnngrid_process: Command,  # Ray keeps the first token of a process
    write_sweep: Write,
    tmp_path: Path,
    data_dir: Path,
    head: Head,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "layers.py").write_text(LAYERS)
    commit = commit_all(tmp_path)
    sweep = write_sweep(compare={"arch": ["network:small", "cnn3"]}, fixed={"lr": 0.01}, seeds=[0])
    options = ("launch", "ray", sweep, "--address", head.dashboard, "--results", tmp_path / "there")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "wrong"))
    (tmp_path / "wrong").write_text("fedcba9876543210" * 4)
    refused = cnngrid_process(*options)
    assert refused.returncode == 2
    assert "the cluster does not take this token; set RAY_AUTH_MODE=token" in refused.stderr

    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token))
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")  # another cluster
    launched = cnngrid_process(*options)
    assert launched.returncode == 0, launched.stderr
    match = re.search(r"job (\S+): The sweep small, 2 trials.", launched.stdout)
    assert match
    job = f"/api/jobs/{match[1]}"
    ends = ("SUCCEEDED", "FAILED", "STOPPED")
    wait_for("the end", lambda: head.ask(job).get("status") in ends)
    log = head.ask(f"{job}/logs").get("logs")
    assert head.ask(job)["status"] == "SUCCEEDED", log
    folder = tmp_path / "there" / "small"
    monkeypatch.chdir(tmp_path)
    run_local(sweep, "here", data_dir)
    assert metrics(folder) == metrics(tmp_path / "here" / "small")
    commits = "SELECT DISTINCT git_commit FROM trials"
    assert rows(open_results(folder), commits) == [{"git_commit": commit}]
    assert not [path for path in (folder / "run").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("http://127.0.0.1:{free}", "/r"), "nobody answers there (Connection refused)"),
        (("http://127.0.0.1:{other}", "/r"), "is not the dashboard of a Ray cluster"),
        (("127.0.0.1:6379", "/r"), "a job goes through the dashboard, such as http://HOST:8265"),
        (("http://127.0.0.1:{free}", "r"), "--results r: the sweep runs on the cluster"),
    ],
)
def test_an_address_that_accepts_no_jobs_is_refused(
    cnngrid: Command, write_sweep: Write, words: tuple[str, str], message: str
) -> None:
    with other_server() as port:
        address = words[0].format(free=free_port(), other=port)
        result = cnngrid(
            "launch", "ray", write_sweep(), "--address", address, "--results", words[1]
        )
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.ray
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{free}", "no Ray cluster answers there (Connection refused)"),
        ("127.0.0.1:{other}", "something else than a Ray head answers there"),
        ("auto", "give the head's own HOST:PORT"),
    ],
)
def test_a_run_finds_no_cluster_within_seconds(
    cnngrid: Command, write_sweep: Write, address: str, message: str
) -> None:
    started = time.monotonic()
    with other_server() as port:
        address = address.format(free=free_port(), other=port)
        result = cnngrid("run", write_sweep(), "--address", address)
    assert result.returncode == 2
    assert message in result.stderr
    assert time.monotonic() - started < 60, "Ray itself tries for minutes"


def test_other_versions_are_named() -> None:
    assert version_problem("2.60.0", "3.11.9", "2.60.0", "3.11.2") is None
    for ray, python in (("2.59.0", "3.11.2"), ("2.60.0", "3.12.1")):
        problem = version_problem(ray, python, "2.60.0", "3.11.2")
        assert problem
        assert f"the cluster runs Ray {ray} on Python {python}, this command Ray 2.60.0" in problem
    words = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.11.2\n"
        "This process on node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.2\n"
    )
    assert "the cluster runs Ray 2.59.0 on Python 3.11.2" in refusal(RuntimeError(words))
    assert "without its token" in refusal(ConnectionError("Failed to connect"))


def test_a_node_that_does_not_see_the_results_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grid.run.ray_tune.cluster.SEEN_WITHIN_S", 0.0)
    (tmp_path / "here" / "run").mkdir(parents=True)
    (tmp_path / "here" / "run" / "seen-1.json").write_text('{"token": "1"}')
    assert look(str(tmp_path / "here"), "seen-1.json", "1") is None
    problem = look(str(tmp_path / "there"), "seen-1.json", "1")
    assert problem
    assert problem.startswith(f"does not see {tmp_path / 'there'}; give --results a folder")


LOST = """
import sys
import ray
from grid.run.ray_tune import cluster as ray_cluster
from grid.errors import GridError
from grid.store.folder import Store
ray_cluster.GONE_WITHIN_S = 1.0
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
there, lists = ray.nodes(), []
lost = {**there[0], "NodeID": "ab" * 28, "NodeManagerAddress": "10.9.8.7"}
def nodes():
    lists.append(1)
    return [*there, {**lost, "Alive": len(lists) <= noticed}]
ray.nodes = nodes
for noticed in (1, 1000):
    try:
        print(ray_cluster.check_nodes(Store(sys.argv[1])))
    except GridError as error:
        print(error)
"""


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.slow
def test_a_node_that_is_gone_is_not_asked_and_one_that_only_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    result = run_to_end(
        [sys.executable, "-c", LOST, str(tmp_path)],
        tmp_path,
        {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert result.returncode == 0, result.stderr
    gone, *fails = result.stdout.splitlines()
    assert gone == "None"
    assert len(fails) == 1
    assert "(10.9.8.7): cannot run cnngrid: The task is not schedulable" in fails[0]
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.slow
def test_a_bundle_holds_the_modules_that_a_sweep_names_and_their_imports(
    write_sweep: Write, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "layers.py").write_text(LAYERS)
    (tmp_path / "other.py").write_text("")
    sweep = write_sweep(compare={"arch": ["network:small", "cnn3"]}, fixed={"lr": 0.01})
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    assert user_files(plan.sources) == ["layers.py", "network.py"]
    folder = tmp_path / "bundle"
    folder.mkdir()
    pack(plan, folder)
    # Started in the bundle, Python imports cnngrid from there.
    code = "import grid.cli.app, network; print(grid.cli.app.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert result.stdout.strip() == str(folder / "grid" / "cli" / "app.py"), result.stderr
    assert (folder / "sweep.yaml").read_text() == sweep.read_text()


def test_the_bundle_takes_our_packages_from_the_folder_that_holds_them() -> None:
    for package in PACKAGES:
        module = importlib.import_module(package)
        assert module.__file__ == str(PACKAGES_DIR / package / "__init__.py")
