"""Slurm: the text of a job's script, from a pure function, and its submission with `sbatch`."""

from __future__ import annotations

import os
import re
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
# Prefixes of variables that Slurm's commands, and MPI below them, take as options. A shell inside a
# job has that job's, and a job submitted there would take its memory, cores and id.
ORDERS = ("SLURM_", *(f"{name}_" for name in ("SBATCH", "SRUN", "SALLOC", "SQUEUE", "SCANCEL")))
MPI_ORDERS = ("PMI_", "PMIX_", "OMPI_")
# Devices of the job, or machine, in which the command was typed.
DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
# Variables that tell where Slurm is and how to reach it.
SITE = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
SITE_PREFIX = "SLURM_SACK_"
# Defaults of a site or user, which Slurm itself never sets, with the options of a script that they
# would outrank.
DEFAULTS = {
    "SBATCH_ACCOUNT": r"--account\b|-A",
    "SBATCH_PARTITION": r"--partition\b|-p",
    "SBATCH_QOS": r"--qos\b|-q",
    "SBATCH_CONSTRAINT": r"--constraint\b|-C",
    "SBATCH_CLUSTERS": r"--clusters?\b|-M",
    "SBATCH_RESERVATION": r"--reservation\b",
    "SBATCH_WCKEY": r"--wckey\b",
}


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
        "gpus-per-node": allocation.gpu_request,
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
    lines = [f"export PATH={_shell(job.python.parent)}:$PATH", "pythonpath=$PYTHONPATH"]
    if job.env_setup:
        message = _shell(f"cnngrid: --env-setup {job.env_setup}: its last command failed")
        lines.append(f"source {_shell(job.env_setup)} || {{ echo {message}; exit 2; }}")
    lines += [
        f"programs={_shell(job.python.parent)} python={_shell(job.python)}",
        f"start_in={_shell(job.start_in)}",
        f"folder={_shell(job.folder)}",
        f"logs={_shell(job.logs)}",
        f"nodes={allocation.nodes} array={allocation.array or ''}",
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
    result = _sbatch(script, "--parsable")
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
        message = _sbatch(script, "--test-only").stderr.strip()
        _run("scancel", job_id)
    except ClusterError:  # the job is submitted all the same
        return
    raise ClusterError(
        f"{message or 'the job would wait for ever'} ({reason}); job {job_id} withdrawn"
    )


def _sbatch(script: Path, option: str) -> subprocess.CompletedProcess[str]:
    """Run sbatch on a script; the defaults of the environment give way to the script's options."""
    text = script.read_text(encoding="utf-8")
    defaults = {
        name: os.environ[name]
        for name, own in DEFAULTS.items()
        if name in os.environ and not re.search(f"^#SBATCH ({own})", text, re.MULTILINE)
    }
    return _run("sbatch", option, str(script), **defaults)


def site_environment() -> dict[str, str]:
    """Return this process's environment without the orders and devices of a job around it."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in SITE
        or name.startswith(SITE_PREFIX)
        or not (name in DEVICES or name.startswith((*ORDERS, *MPI_ORDERS)))
    }


def _run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**site_environment(), **variables}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{command[0]}: no answer from Slurm within {TIMEOUT_S} s") from None
    except OSError as error:
        raise ClusterError(f"{command[0]}: {error.strerror}") from None
