"""Small real sweeps on digits, run in this process or by the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnncore.own_modules import use
from tests.processes import Process, run_to_end
from tests.small_sweeps import SMALL, call_main, command, environment


@pytest.fixture
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the test's own (digits need none but decode into it)."""
    return tmp_path_factory.getbasetemp() / "data"


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Path]:
    """Write a small sweep file; keywords replace its sections, `fixed` is merged."""

    def write(name: str = "sweep.yaml", **changes: Any) -> Path:
        content = {**SMALL, **changes}
        content["fixed"] = {**SMALL["fixed"], **changes.get("fixed", {})}
        for axis in (*content["compare"], *content.get("tune", {}).get("axes", {})):
            content["fixed"].pop(axis, None)
        path = tmp_path / name
        path.write_text(json.dumps(content, indent=1))
        return path

    return write


@pytest.fixture
def cnngrid(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a folder of the test's own, in this process.

    Modules are imported only once. `run` writes a report only with `report=True`.
    """

    def call(*arguments: str | Path, report: bool = False) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "path", [*sys.path])  # a command adds its folder
            for name, value in environment(data_dir).items():
                patch.setenv(name, value)
            try:
                return call_main(*arguments, report=report)
            finally:
                use(None)  # `run --code` and `explain` change it for their process

    return call


@pytest.fixture
def cnngrid_process(
    tmp_path: Path, data_dir: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a folder of the test's own, in a process of its own."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_to_end(command(*arguments), tmp_path, environment(data_dir))

    return call


@pytest.fixture
def start(
    tmp_path: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Process]]:
    """Start the command and go on; kill it if it still runs at the end of the test."""
    started: list[Process] = []

    def call(*arguments: str | Path) -> Process:
        output = tmp_path_factory.mktemp("output") / "output"
        process = Process(command(*arguments), tmp_path, environment(data_dir), output)
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill_and_wait()
