"""What a launched job is: a command on nodes of a cluster, with a Ray of its own around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Allocation:
    """What is asked of the cluster; None leaves it to the site's defaults.

    `time` is in Slurm's words, such as `8:00:00`; `extra` are further options of sbatch, as given.
    `array`: so many jobs of `nodes` each, which start and end for themselves.
    """

    nodes: int = 1
    array: int | None = None
    cpus_per_node: int = 1
    gpus_per_node: int = 0
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A command that is run once Ray is up on all nodes, with `--address HOST:PORT` at its end.

    It ends with 130 when it was interrupted by SIGTERM and has work left; all paths are absolute.
    """

    name: str
    title: str
    command: tuple[str, ...]
    allocation: Allocation
    # The job's own folder: its script and, while it runs, its token.
    folder: Path
    # The folder that the job starts in.
    start_in: Path
    # Folder of the logs, named after the job's id.
    logs: Path
    # Folders that every node must see.
    shared: tuple[Path, ...]
    # Folders in which a new file means that the command got somewhere.
    progress: tuple[Path, ...]
    # Put first on the path: where the commands that launched the job are.
    programs: Path
    # A file of the user's, sourced before anything else.
    env_setup: Path | None = None
    # The command is interrupted this long before the time limit.
    stop_before_s: int = 120
