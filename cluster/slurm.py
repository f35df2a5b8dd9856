"""Slurm: the text of a job's script, made by a pure function, and its submission by `sbatch`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from importlib import resources
from pathlib import Path

from cluster.errors import ClusterError
from cluster.job import Job

# Why a job is pending that no waiting helps: the partition has no such nodes, or not for so long.
HOPELESS = ("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints")
# A busy slurmctld answers late; one that is not there never does.
TIMEOUT_S = 60


def sbatch_script(job: Job) -> str:
    """The script of a job: what it asks of Slurm, its settings, then what every job does.

    Raises `ValueError` where an option would end its line.
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
    """Where a submitted job writes; of an array a pattern."""
    return job.logs / f"slurm-{job_id}{'_*' if job.allocation.array else ''}.log"


def _options(job: Job) -> list[str]:
    asked = job.allocation
    given = {
        "job-name": job.name,
        "array": f"1-{asked.array}" if asked.array else None,
        "nodes": asked.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": asked.cpus_per_node,
        "gpus-per-node": asked.gpus_per_node or None,
        "time": asked.time,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "chdir": job.start_in,
        # A percent sign begins one of Slurm's own names, such as %j.
        "output": f"{job.logs}".replace("%", "%%")
        + f"/slurm-{'%A_%a' if asked.array else '%j'}.log",
        # A job that was requeued goes on in the same log.
        "open-mode": "append",
        "signal": f"B:USR1@{job.stop_before_s}",
    }
    options = [f"--{name}={_quoted(value)}" for name, value in given.items() if value is not None]
    options.append("--requeue")
    if asked.nodes > 1:  # the sweep goes on with the nodes that are left
        options.append("--no-kill")
    return options + [_one_line(option) for option in asked.extra]


def _settings(job: Job) -> str:
    """Assignments that the part of the script after them reads."""
    asked = job.allocation
    lines = [f"export PATH={_shell(job.programs)}:$PATH"]
    if job.env_setup:
        lines.append(f"source {_shell(job.env_setup)} || exit 2")
    lines += [
        f"folder={_shell(job.folder)}",
        f"logs={_shell(job.logs)}",
        f"nodes={asked.nodes}",
        f"export cpus={asked.cpus_per_node} gpus={asked.gpus_per_node}",
        f"shared=({' '.join(map(_shell, job.shared))})",
        f"progress=({' '.join(map(_shell, job.progress))})",
        f"command=({' '.join(map(_shell, job.command))})",
    ]
    return "\n".join(lines)


def _shell(word: str | Path) -> str:
    return shlex.quote(_one_line(str(word)))


def _quoted(value: object) -> str:
    """A value as sbatch reads it in its comments: bare, or in double quotes."""
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
    """Submit a script; returns the job's id. Raises `ClusterError` with Slurm's own words."""
    if not shutil.which("sbatch"):
        raise ClusterError("no sbatch on the path: this machine does not submit to a Slurm cluster")
    done = _slurm("sbatch", "--parsable", str(script))
    if done.returncode:
        raise ClusterError(done.stderr.strip() or f"sbatch ended with {done.returncode}")
    job_id = done.stdout.strip().partition(";")[0]
    _check_hope(job_id, script)
    return job_id


def _check_hope(job_id: str, script: Path) -> None:
    """Most sites accept a job that fits no node and let it wait for ever: withdraw it at once."""
    try:
        reason = _slurm("squeue", "--noheader", "--jobs", job_id, "--format", "%r").stdout.strip()
        reason = reason.partition("\n")[0]  # those of an array wait for the same
        if reason not in HOPELESS:
            return
        words = _slurm("sbatch", "--test-only", str(script)).stderr.strip()
        _slurm("scancel", job_id)
    except ClusterError:  # submitted it is, whatever it waits for
        return
    raise ClusterError(
        f"{words or 'the job would wait for ever'} ({reason}); job {job_id} withdrawn"
    )


def _slurm(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{command[0]}: no answer from Slurm within {TIMEOUT_S} s") from None
    except OSError as error:
        raise ClusterError(f"{command[0]}: {error.strerror}") from None
