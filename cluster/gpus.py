"""GPUs of a job, counted in the options of sbatch that ask for them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

# Options that ask for GPUs of one node, as a job has one task on each.
PER_NODE = ("gres", "gpus-per-node", "gpus-per-task", "tres-per-node", "tres-per-task")
# An entry of such an option: gpu, gpu:2, gpu:a100:2, gres/gpu:2, gres/gpu=2, gpu:a100:2(S:0-1).
ENTRY = re.compile(r"(?:gres[/:])?(gpu|mps|shard)(?:[:=/]([^():=]+?))?(?:[:=](\d+))?(?:\(.*\))?")
# A value of --gpus-per-node: 2, a100:2, a100:1,v100:1.
COUNT = re.compile(r"(?:[\w.+-]+:)?(\d+)")


def count_gpus(value: str) -> int:
    """Count the GPUs in a value of --gpus-per-node: `2`, `a100:2`, `a100:1,v100:1`.

    Raises `ValueError` if it is none.
    """
    entries = [COUNT.fullmatch(entry) for entry in value.split(",")]
    if not all(entries):
        raise ValueError(f"{value}: want a number of GPUs, or with their type, such as a100:2")
    return sum(int(entry[1]) for entry in entries if entry)


def gpus_of_options(options: Iterable[str]) -> int | None:
    """Count the GPUs of each node that options of sbatch ask for; None if none of them does.

    Raises `ValueError` for an option whose GPUs of a node are not known beforehand.
    """
    count: int | None = None
    for name, value in _pairs(options):
        if name in ("G", "gpus", "gpus-per-socket"):
            dashes = "-" if len(name) == 1 else "--"
            raise ValueError(
                f"--extra {dashes}{name}: does not say how many GPUs a node has; give "
                "--gpus-per-node, or --extra=--gres=gpu:2"
            )
        if name in ("gpus-per-node", "gpus-per-task"):
            count = (count or 0) + count_gpus(value)
        elif name in PER_NODE:
            for entry in map(ENTRY.fullmatch, re.split(r",(?![^(]*\))", value)):
                if entry:
                    count = (count or 0) + _of_entry(*entry.groups())
    return count


def _of_entry(kind: str, group: str | None, number: str | None) -> int:
    """Return the GPUs of an entry of --gres; a share of a GPU (mps, shard) shows the job one."""
    if number is None and group is not None and group.isdigit():
        group, number = None, group
    gpus = int(number) if number is not None else 1
    return gpus if kind == "gpu" else min(gpus, 1)


def _pairs(options: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield names and values of options, each written as in a line of #SBATCH."""
    for option in options:
        try:
            words = shlex.split(option)
        except ValueError:
            words = option.split()
        for position, word in enumerate(words):
            if re.match(r"-\w", word):
                following = words[position + 1] if position + 1 < len(words) else ""
                yield word[1], word[2:].removeprefix("=") or following
            elif word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                following = words[position + 1] if position + 1 < len(words) else ""
                yield name, value if equals else following


def option_names(options: Iterable[str]) -> set[str]:
    """Return the names of options of sbatch, without dashes."""
    return {name for name, _ in _pairs(options)}
