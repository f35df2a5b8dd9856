"""Slurm: the text of a job's script, from a pure function, and its submission with `sbatch`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from importlib import resources
from pathlib import Path

from cluster.errors import ClusterError
from cluster.job import Job

# Pending reasons that waiting does not change: the partition has no such nodes or time limit.
NEVER_STARTS = ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints")
# A busy slurmctld answers late, one that is down never.
TIMEOUT_S = 60


def sbatch_script(job: Job) -> str:
    """Return the script of a job: its options for Slurm, its settings, then `slurm_job.sh`.

    Raises `ValueError` if an option contains a line break.
    """
    return "\n".join(
        [
            "#!/bin/bash",
            f"# {_one_line(job.title)}",
            "# Written by cnngrid; to be read, and to be submitted again with sbatch.",
            *(f"#SBATCH {option}" for option in _options(job)),
            "",
            _settings(job),
            "",
            resources.files("cluster").joinpath("slurm_job.sh").read_text(encoding="utf-8"),
        ]
    )


def log_path(job: Job, job_id: str) -> Path:
    """Return the path of a submitted job's log, or a pattern for an array's logs."""
    return job.logs / f"slurm-{job_id}{'_*' if job.allocation.array else ''}.log"


def _options(job: Job) -> list[str]:
    allocation = job.allocation
    values = {
        "job-name": job.name,
        "array": f"1-{allocation.array}" if allocation.array else None,
        "nodes": allocation.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": allocation.cpus_per_node,
        "gpus-per-node": allocation.gpus_per_node or None,
        "time": allocation.time,
        "partition": allocation.partition,
        "account": allocation.account,
        "qos": allocation.qos,
        "constraint": allocation.constraint,
        "chdir": job.start_in,
        # Slurm replaces patterns that begin with a percent sign, such as %j.
        "output": f"{job.logs}".replace("%", "%%")
        + f"/slurm-{'%A_%a' if allocation.array else '%j'}.log",
        # A requeued job continues the log.
        "open-mode": "append",
        "signal": f"B:USR1@{job.stop_before_s}",
    }
    options = [f"--{name}={_quoted(value)}" for name, value in values.items() if value is not None]
    options.append("--requeue")
    if allocation.nodes > 1:  # if a node fails, the sweep continues on the others
        options.append("--no-kill")
    return options + [_one_line(option) for option in allocation.extra]


def _settings(job: Job) -> str:
    """Return the assignments that `slurm_job.sh` reads."""
    allocation = job.allocation
    lines = [f"export PATH={_shell(job.programs)}:$PATH"]
    if job.env_setup:
        lines.append(f"source {_shell(job.env_setup)} || exit 2")
    lines += [
        f"folder={_shell(job.folder)}",
        f"logs={_shell(job.logs)}",
        f"nodes={allocation.nodes}",
        f"export cpus={allocation.cpus_per_node} gpus={allocation.gpus_per_node}",
        f"shared=({' '.join(map(_shell, job.shared))})",
        f"progress=({' '.join(map(_shell, job.progress))})",
        f"command=({' '.join(map(_shell, job.command))})",
    ]
    return "\n".join(lines)


def _shell(word: str | Path) -> str:
    return shlex.quote(_one_line(str(word)))


def _quoted(value: object) -> str:
    """Return a value as sbatch reads it in `#SBATCH` lines: plain or in double quotes."""
    text = _one_line(str(value))
    if shlex.quote(text) == text or not set(text) & set(" \t\"'\\#"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _one_line(text: str) -> str:
    if any(ord(letter) < 32 for letter in text):
        raise ValueError(f"an option of a job must be one line, but got {text!r}")
    return text


def submit(script: Path) -> str:
    """Submit a script and return the job's id. Raises `ClusterError` with Slurm's message."""
    if not shutil.which("sbatch"):
        raise ClusterError("no sbatch on the path: this machine does not submit to a Slurm cluster")
    result = _run("sbatch", "--parsable", str(script))
    if result.returncode:
        raise ClusterError(result.stderr.strip() or f"sbatch ended with {result.returncode}")
    job_id = result.stdout.strip().partition(";")[0]
    _withdraw_if_stuck(job_id, script)
    return job_id


def _withdraw_if_stuck(job_id: str, script: Path) -> None:
    """Cancel a job that fits no node and raise `ClusterError`; most sites let it wait for ever."""
    try:
        reason = _run("squeue", "--noheader", "--jobs", job_id, "--format", "%r").stdout.strip()
        reason = reason.partition("\n")[0]  # all jobs of an array have the same reason
        if reason not in NEVER_STARTS:
            return
        message = _run("sbatch", "--test-only", str(script)).stderr.strip()
        _run("scancel", job_id)
    except ClusterError:  # the job is submitted all the same
        return
    raise ClusterError(
        f"{message or 'the job would wait for ever'} ({reason}); job {job_id} withdrawn"
    )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{command[0]}: no answer from Slurm within {TIMEOUT_S} s") from None
    except OSError as error:
        raise ClusterError(f"{command[0]}: {error.strerror}") from None
