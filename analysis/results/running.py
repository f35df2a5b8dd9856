"""Running trials: their claims under `run/trials`, and the age of each claim."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.results.regular_file import read_small_text

# The keys of a claim, in the order of `held.running`.
KEYS: dict[str, type | tuple[type, ...]] = {
    "host": str,
    "pid": (int, float),
    "slot": (int, float),
    "device": str,
    "attempt": (int, float),
    "started_at": (int, float),
    "wall_time_s": (int, float),
    "heartbeat": (int, float),
    "epoch": (int, float),
    "epochs": (int, float),
    "val_top1": (int, float),
    "objective": (int, float),
    "cpu_wait": (int, float),
}


@dataclass(frozen=True)
class StateFile:
    """A small state file: its content, and its modification time by the file system's clock."""

    content: dict[str, Any]
    written: float


def read_claims(folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """Yield trial and values of every claim; the last value is its age in seconds."""
    paths = sorted((folder / "run" / "trials").glob("*.json"))
    claims = {path.stem: claim for path in paths if (claim := read_state(path))}
    driver = read_state(folder / "run" / "driver.json")
    now = file_system_now([*claims.values(), *([driver] if driver else [])])
    for trial_id, claim in claims.items():
        values = [
            claim.content[key] if isinstance(claim.content.get(key), kind) else None
            for key, kind in KEYS.items()
        ]
        yield trial_id, [*values, max(now - claim.written, 0.0)]


def file_system_now(states: list[StateFile]) -> float:
    """Return the time by the clock that dates files, which may be another machine's than ours.

    A file that this machine wrote tells the difference between the two clocks. If there is none, a
    file from the future does.
    """
    own = [state for state in states if state.content.get("host") == socket.gethostname()]
    offsets = [
        heartbeat - state.written
        for state in own
        if isinstance(heartbeat := state.content.get("heartbeat"), (int, float)) and heartbeat
    ]
    now = time.time() - (offsets[-1] if offsets else 0.0)
    return max([now, *(state.written for state in states)])


def read_state(path: Path) -> StateFile | None:
    """Return the content of a state file; None if it is gone or unreadable."""
    try:
        content = json.loads(read_small_text(path))
        written = os.stat(path).st_mtime
    except (OSError, ValueError, RecursionError):
        return None
    return StateFile(content, written) if isinstance(content, dict) else None
