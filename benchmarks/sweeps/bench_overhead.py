"""The cost of a trial beyond its training, evaluation, latency probe and checkpoint.

Small trials run one after another on one slot; the first few, which start the process, are left
out. The overhead is the median time between the ends of two trials minus the median time of the
bare work in one process: the training loop, evaluation, latency probes and checkpoint alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.measure import RESULTS, Side, environment, interleave, serve, summary, write_csv

TRIALS = 40
WARM_UP = 10
EPOCHS = 3


def sweep() -> dict[str, Any]:
    """Return a sweep of many short trials of several epochs, so that reports are measured too."""
    return {
        "sweep": "short",
        "compare": {"lr": [0.01 + 0.0001 * n for n in range(TRIALS)]},
        "fixed": {
            "arch": "cnn3",
            "dataset": "digits",
            "image_size": 32,
            "optimizer": "sgd",
            "epochs": EPOCHS,
            "batch_size": 64,
            "limit_train": 256,
        },
        "seeds": [0],
        "resources": {"cpus": 1},
    }


def trial_seconds(*options: str) -> float:
    """Return the median seconds between the ends of two trials of a sweep."""
    from grid.store.folder import Store

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(json.dumps(sweep()))
        results = f"{folder}/results"
        command = [sys.executable, "-m", "grid.cli", "run", str(path), "--results", results]
        result = subprocess.run([*command, *options], capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(result.stderr[-2000:])
        ends = sorted(row.ended_at for row in Store(f"{results}/short").finished().values())
    warm = ends[WARM_UP:]
    return float(median(after - before for before, after in itertools.pairwise(warm))) / 1e6


def bare() -> Callable[[], float]:
    """Return a function that measures the median seconds of the bare work."""
    import torch

    from cnncore.checkpoint import save_checkpoint
    from cnncore.config import TrialConfig
    from cnncore.data import load_dataset, open_splits
    from cnncore.measure.evaluate import predict
    from cnncore.measure.latency import measure_latency
    from cnncore.measure.metrics import classification_metrics
    from cnncore.models import build_model
    from cnncore.training.train import start, train
    from cnncore.training.train_state import chosen_model

    torch.set_num_threads(1)
    device = torch.device("cpu")
    data_dir = os.environ.get("CNNGRID_DATA", tempfile.gettempdir())

    def once(lr: float, folder: str) -> float:
        config = TrialConfig.model_validate({**sweep()["fixed"], "lr": lr})
        splits = open_splits(config, load_dataset("digits", data_dir), device)
        model = build_model("cnn3", classes=10, image_size=32)
        state = start(config, model, 0, device)
        started = perf_counter()
        for _ in train(state, splits, config):
            pass
        chosen = chosen_model(state)
        assert state.best_predictions is not None
        test = predict(chosen, splits.test.batches(), precision="fp32", device=device)
        for predictions in (state.best_predictions, test):
            classification_metrics(*predictions)
        for size in (1, 16):
            measure_latency(chosen, 32, batch_size=size, device=device)
        save_checkpoint(Path(folder) / "best.pt", {"weights": chosen.state_dict()})
        return perf_counter() - started

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            seconds = [once(lr, folder) for lr in sweep()["compare"]["lr"]]
        return median(seconds[WARM_UP:])

    return measure


def main() -> None:
    """Measure both in turn and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, printed only")
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        serve(bare())
        return
    with Side("benchmarks.sweeps.bench_overhead", threads=1) as work:
        sides: dict[str, Callable[[], float]] = {
            "ray": lambda: trial_seconds("--slots", "1"),
            "bare": work,
        }
        values = interleave(sides, rounds=1 if arguments.quick else 3, warm_up=0)
    machine = environment(("torch", "ray"))
    common = {"unit": "s per trial", "trials": TRIALS, "epochs": EPOCHS, "threads": 1}
    rows = [
        {"what": name, **common, **summary(seconds), **machine} for name, seconds in values.items()
    ]
    added = [a - b for a, b in zip(values["ray"], values["bare"], strict=True)]
    rows.append({"what": "added", **common, **summary(added), **machine})
    write_csv(None if arguments.quick else RESULTS / "overhead.csv", rows)


if __name__ == "__main__":
    main()
