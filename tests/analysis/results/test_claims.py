"""The age of a claim does not depend on the clocks of the machines."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.results.running import read_claims

NOW = 1_790_000_000.0


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.results.running.time", SimpleNamespace(time=lambda: NOW))


def claim(folder: Path, name: str, *, host: str, heartbeat: float, written: float) -> None:
    """Write a claim; heartbeat and file date are seconds from now, each by its own clock."""
    path = folder / "run" / "trials" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": host, "pid": 7, "heartbeat": NOW + heartbeat}))
    os.utime(path, (NOW + written, NOW + written))


def ages(folder: Path) -> dict[str, float]:
    return {trial: values[-1] for trial, values in read_claims(folder)}


def test_a_claim_is_as_old_as_its_file_whatever_its_writers_clock_says(tmp_path: Path) -> None:
    claim(tmp_path, "ahead", host="node1", heartbeat=+600, written=-3)
    claim(tmp_path, "behind", host="node2", heartbeat=-600, written=-3)
    claim(tmp_path, "silent", host="node3", heartbeat=+600, written=-120)
    assert ages(tmp_path) == pytest.approx({"ahead": 3, "behind": 3, "silent": 120}, abs=0.01)


def test_a_file_of_this_machine_says_how_far_its_clock_is_off(tmp_path: Path) -> None:
    # The file system's clock is five minutes behind ours.
    claim(tmp_path, "other", host="node1", heartbeat=-300, written=-310)
    claim(tmp_path, "own", host=socket.gethostname(), heartbeat=-2, written=-302)
    assert ages(tmp_path) == pytest.approx({"other": 10, "own": 2}, abs=0.01)


def test_if_our_clock_is_behind_the_newest_file_stands_for_now(tmp_path: Path) -> None:
    claim(tmp_path, "newest", host="node1", heartbeat=0, written=+300)
    claim(tmp_path, "silent", host="node2", heartbeat=0, written=+180)
    assert ages(tmp_path) == pytest.approx({"newest": 0, "silent": 120}, abs=0.01)
