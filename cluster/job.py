"""A job to launch: a command on nodes of a cluster, inside a Ray cluster of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Allocation:
    """The resources that a job requests; None stands for the site's default.

    `time` is in Slurm's format, such as `8:00:00`. `extra` are more options of sbatch, passed on
    unchanged. `array` is a number of jobs of `nodes` each, which start and end independently.
    `gpu_request` is the request for `gpus_per_node` as Slurm reads it, None if `extra` has it.
    """

    nodes: int = 1
    array: int | None = None
    cpus_per_node: int = 1
    gpus_per_node: int = 0
    gpu_request: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A command that runs when Ray is up on all nodes, with `--address HOST:PORT` appended.

    It ends with 130 if SIGTERM interrupted it and work is left. All paths are absolute.
    """

    name: str
    title: str
    command: tuple[str, ...]
    allocation: Allocation
    # Folder of the job: its script and, while it runs, its token.
    folder: Path
    # Working directory of the job.
    start_in: Path
    # Folder of the logs; their names contain the job's id.
    logs: Path
    # Folders that every node must be able to read.
    shared: tuple[Path, ...]
    # Folders in which a new file proves that the command made progress.
    progress: tuple[Path, ...]
    # The Python that launched the job: it runs the job too, and its folder is first on the PATH.
    python: Path
    # The user's shell file, sourced first.
    env_setup: Path | None = None
    # Time between the interruption of the command and the time limit.
    stop_before_s: int = 120
