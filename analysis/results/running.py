"""What trials that run say of themselves: the claims under `run/trials`, and how old they are."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a claim may hold, in the order of `held.running`.
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
}


@dataclass(frozen=True)
class Said:
    """A small state file: its content, and when it was written by the file system's clock."""

    content: dict[str, Any]
    written: float


def read_claims(folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """Trial and values, the last of them the seconds since it said so, of every claim."""
    paths = sorted((folder / "run" / "trials").glob("*.json"))
    claims = {path.stem: said for path in paths if (said := read_state(path))}
    driver = read_state(folder / "run" / "driver.json")
    now = file_system_now([*claims.values(), *([driver] if driver else [])])
    for trial_id, said in claims.items():
        values = [
            said.content[key] if isinstance(said.content.get(key), kind) else None
            for key, kind in KEYS.items()
        ]
        yield trial_id, [*values, max(now - said.written, 0.0)]


def file_system_now(states: list[Said]) -> float:
    """The time by the clock that dates files, which may be another machine's than ours.

    How far ours is off is known from a file that this machine wrote itself, and where there is
    none, from a file of the future.
    """
    own = [said for said in states if said.content.get("host") == socket.gethostname()]
    offsets = [
        heartbeat - said.written
        for said in own
        if isinstance(heartbeat := said.content.get("heartbeat"), (int, float)) and heartbeat
    ]
    now = time.time() - (offsets[-1] if offsets else 0.0)
    return max([now, *(said.written for said in states)])


def read_state(path: Path) -> Said | None:
    """What a state file says, None where it is gone or unreadable."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
            written = os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError):
        return None
    return Said(content, written) if isinstance(content, dict) else None
