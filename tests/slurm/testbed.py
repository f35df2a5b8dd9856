"""A real Slurm of two nodes, which `slurm-testbed` starts on this machine."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ENDS_WITHIN_S, run_to_end, wait_for
from tests.small_sweeps import command, environment

TESTBED = Path(__file__).with_name("slurm-testbed")


class NoSlurmError(Exception):
    """Slurm could not be started here; the message gives the reason."""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm, and the command in a folder of the test's own."""

    env: dict[str, str]
    folder: Path

    @property
    def nodes_are_isolated(self) -> bool:
        """True if nodes have names, networks and processes of their own."""
        return self.env["SLURM_TESTBED_RUNNING_MODE"] == "netns"

    def call(self, *words: str, **changes: str) -> str:
        """Return the output of a command that must succeed."""
        result = self.run(*words, **changes)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def run(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm's, or `cnngrid`."""
        line = command(*words[1:]) if words[0] == "cnngrid" else list(words)
        env = {**self.env, **changes}
        return run_to_end(line, self.folder, env)

    def launch(self, *words: str, **changes: str) -> str:
        """Launch a sweep and return the job's id."""
        output = self.call("cnngrid", "launch", "slurm", *words, **changes)
        return str(re.match(r"job (\d+): ", output).group(1))

    def state(self, job: str) -> str:
        """Return the state of a job as Slurm names it."""
        output = self.call("scontrol", "-o", "show", "job", job)
        return str(re.search(r"JobState=(\w+)", output).group(1))

    def runs_for_s(self, job: str) -> int:
        """Return the seconds that a job has run so far."""
        output = self.call("scontrol", "-o", "show", "job", job)
        hours, minutes, seconds = re.search(r"RunTime=(\d+):(\d+):(\d+)", output).groups()
        return int(hours) * 3600 + int(minutes) * 60 + int(seconds)

    def completed(self, job: str) -> bool:
        """Return true if a job completed."""
        return self.state(job) == "COMPLETED"

    def log(self, results: Path | str, job: str) -> str:
        """Return the output of a job so far; `results` is its results folder."""
        path = self.folder / results / "logs" / f"slurm-{job}.log"
        return path.read_text() if path.exists() else ""

    def wait(
        self, event: str, condition: Callable[[], object], seconds: float = ENDS_WITHIN_S
    ) -> None:
        """Wait for an event; add the logs to the error if it does not happen."""
        try:
            wait_for(event, condition, timeout_s=seconds, every_s=0.2)
        except AssertionError as error:
            logs = self.folder.glob("*/*/logs/*.log")
            texts = (f"== {path.name}\n{path.read_text()}" for path in logs)
            error.add_note("\n".join([*texts, self.call("squeue")]))
            raise

    def temporary_files(self) -> list[Path]:
        """Return the files that jobs left on the nodes' disks."""
        return list(Path(self.env["CNNGRID_SCRATCH"]).iterdir())

    def on_node(self, node: str, *words: str) -> str:
        """Return the output of a command on a node, outside any job."""
        return self.call(str(TESTBED), "exec", node, *words)

    def has_no_ray(self, node: str) -> bool:
        """Return true if no process of Ray is left on a node."""
        return "ray" not in self.on_node(node, "ps", "axww", "-o", "args")


@contextmanager
def two_nodes(folder: Path, data: Path) -> Iterator[Slurm]:
    """Start a Slurm of two nodes with four cores each; only one runs on this machine at a time.

    Commands run in `folder`. Raises `NoSlurmError`.
    """
    state = Path(tempfile.mkdtemp(prefix="stb", dir="/tmp"))
    (state / "t").mkdir()
    env = {
        **environment(data),
        "SLURM_TESTBED_DIR": str(state),
        "SLURM_TESTBED_NO_INSTALL": "1",
        "SLURM_TESTBED_KILLWAIT": "15",
        "CNNGRID_SCRATCH": str(state / "t"),
        # Home of its own: no test may need files that Ray leaves there, and none may stay.
        "HOME": str(folder / "home"),
    }
    (folder / "home").mkdir()
    with open(Path(tempfile.gettempdir()) / "cnngrid-slurm-tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            up = run_to_end([TESTBED, "up", "2"], folder, env)
            if up.returncode:
                raise NoSlurmError(up.stderr.strip())
            output = run_to_end([TESTBED, "env"], folder, env).stdout
            pairs = re.findall(r"export (\w+)=(.*)", output)
            yield Slurm({**env, **dict(pairs)}, folder)
        finally:
            run_to_end([TESTBED, "down"], folder, env)
            shutil.rmtree(state, ignore_errors=True)
