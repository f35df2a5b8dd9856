"""`cnngrid status` on a running sweep: nodes, devices, heartbeats, pace and time left."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grid.lock.heartbeat import process_started
from grid.store.folder import Store


@pytest.mark.slow
def test_status_says_what_runs_where_and_how_long_the_rest_takes(
    write_sweep: Callable[..., Path],
    tmp_path: Path,
    cnngrid: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    sweep = write_sweep()
    store = Store(tmp_path / "results" / "small")
    assert cnngrid("run", sweep, "--local").returncode == 0
    running, silent = sorted(path.stem for path in (store.folder / "trials").iterdir())[:2]
    for trial_id, host in (running, "node1"), (silent, "node2"):
        store.table_path("trials", trial_id).unlink()
        store.claims.write(
            trial_id,
            {"host": host, "pid": 7, "device": "gpu 1", "attempt": 2, "epoch": 1, "epochs": 3,
             "val_top1": 0.5, "wall_time_s": 60.0, "cpu_wait": 0.4, "heartbeat": time.time()},
        )  # fmt: skip
    ago = time.time() - 130
    os.utime(store.claims.path(silent), (ago, ago))

    output = cnngrid("status", store.folder).stdout
    line = f"node1 gpu 1: {running} cnn3: epoch 1/3, val top-1 50.00 % (process 7, attempt 2, "
    assert re.search(re.escape(line) + r"heartbeat \d+ s ago\)", output)
    assert re.search(rf"node2 gpu 1: {silent} .*, silent for 2 min \d+ s\)", output)
    assert "node1 is busy: its trials wait for a processor 40 % of the time" in output
    assert "node2 is busy" not in output  # its claim is old
    assert "no driver is running" in output

    driver = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "started_at": time.time() - 1800,
        "heartbeat": time.time(),
    }
    (store.run / "driver.json").write_text(json.dumps(driver))
    output = cnngrid("status", store.folder).stdout
    answer = json.loads(cnngrid("status", store.folder, "--json").stdout)
    assert re.search(r"1 trial at a time, [34][.\d]* trials an hour, .* left\n", output)
    assert [claim["trial_id"] for claim in answer["running"]] == [running]
    assert [claim["host"] for claim in answer["silent"]] == ["node2"]
    assert [driver["pid"] for driver in answer["drivers"]] == [os.getpid()]
    # Two epochs of the running trial and the whole other one, one after another.
    assert 60 < answer["time_left_s"] < 400
    assert sum(cell["planned"] for cell in answer["cells"]) == 4
