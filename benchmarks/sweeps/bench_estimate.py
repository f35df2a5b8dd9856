"""The plan's estimate of 20 mixed trials against what they then take.

Each trial is estimated from counted operations, after a probe, and after the same trial ran once.
It then runs twice: the first run is the truth of the first two estimates, the second that of the
third, and their ratio is the control. All run one after another in this process, with one thread.
The times are the wall times of the trials; beside them stands the time that the process computed,
which is the same on a quiet machine and tells more on one that is busy.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from benchmarks.measure import RESULTS, environment, write_csv

HOW = ("counted", "probe", "trials", "control")
# The same against the time that the process computed.
COMPUTED = ("counted_to_computed", "probe_to_computed", "control_of_computed")


@dataclass(frozen=True)
class Case:
    """One trial: enough images and epochs for some seconds."""

    arch: str
    image_size: int
    batch_size: int
    precision: str
    optimizer: str
    images: int
    epochs: int
    more: dict[str, Any] = field(default_factory=dict)

    def sweep(self) -> dict[str, Any]:
        """Return the sweep of this trial, with a second seed for the second run."""
        keys = {"dataset": "digits", "lr": 0.001, "limit_test": 128, "limit_train": self.images}
        names = ("arch", "image_size", "batch_size", "precision", "optimizer", "epochs")
        return {
            "sweep": "estimated",
            "compare": {"arch": [self.arch]},
            "fixed": {**keys, **{name: getattr(self, name) for name in names[1:]}, **self.more},
            "seeds": [0],
            "resources": {"cpus": 1, "gpus": 0},
        }


# Constants of the estimate were fitted to single convolutions, and their order of magnitude was
# looked at with some of these networks: those with `seen`.
CASES = (
    Case("cnn3", 32, 128, "fp32", "sgd", 1024, 12),
    Case("cnn3", 32, 16, "bf16", "adam", 1024, 5),
    Case("mobilenet_small", 32, 64, "fp32", "sgd", 512, 2),
    Case("mobilenet_small", 24, 32, "bf16", "adam", 512, 3),
    Case("resnet18", 32, 64, "fp32", "sgd", 512, 2),
    Case("resnet18", 48, 32, "bf16", "adamw", 512, 2),
    Case("resnet18", 32, 64, "fp32", "nadam", 512, 2, {"augment": ["trivial_augment"]}),
    Case("vgg11", 32, 32, "fp32", "sgd", 128, 2),
    Case("vgg11_bn", 32, 16, "bf16", "adam", 128, 1),
    Case("squeezenet1_1", 64, 32, "fp32", "sgd", 512, 3),
    Case("shufflenet_v2_x1_0", 64, 32, "fp32", "adam", 512, 2),
    Case("shufflenet_v2_x0_5", 32, 64, "fp32", "rmsprop", 1024, 3),
    Case("mobilenet_v2", 64, 16, "fp32", "sgd", 256, 2),
    Case("mobilenet_v3_small", 64, 32, "fp32", "adam", 512, 2),
    Case("efficientnet_b0", 64, 16, "fp32", "adam", 256, 2),
    Case("densenet121", 64, 8, "fp32", "sgd", 128, 2),
    Case("googlenet", 64, 16, "fp32", "adam", 128, 2),
    Case("alexnet_kumar", 32, 64, "fp32", "sgd", 256, 2),
    Case("alexnet", 64, 32, "fp32", "adamw", 256, 2),
    Case("wrn_20_10", 32, 32, "fp32", "muon", 256, 2, {"width": 0.1}),
)
SEEN = {"cnn3", "mobilenet_small", "resnet18", "vgg11", "squeezenet1_1", "shufflenet_v2_x1_0"}
SEEN |= {"mobilenet_v2", "efficientnet_b0", "densenet121", "alexnet", "wrn_20_10"}


def estimate_s(case: Case, folder: Path, data_dir: Path, *, measure: bool = False) -> float:
    """Return the seconds that the plan expects of one trial."""
    from grid.api import make_plan
    from grid.cost.times.probe import probe
    from grid.cost.times.trial_cost import TrialCosts
    from grid.sweep.load import load_sweep

    plan = make_plan(load_sweep(_write(case, folder)), data_dir=data_dir)
    config = plan.trials[0].config
    costs = TrialCosts(plan, data_dir, "cpu", 1)
    costs.read([config])
    if measure:
        if notes := probe(costs, [config]):
            raise RuntimeError(notes[0])
        costs.read([config])
    return costs.of(config).seconds(config.epochs, costs.sizes(config))


def run(case: Case, folder: Path, data_dir: Path, name: str) -> tuple[float, float]:
    """Run the trial; return its wall time and the time that this process computed for it."""
    from grid import load_sweep, run_sweep
    from grid.store.folder import Store

    sweep, results = load_sweep(_write(case, folder)), folder / name
    started = process_time()
    run_sweep(sweep, results=results, data_dir=data_dir, local=True, quiet=True)
    computed = process_time() - started
    (row,) = Store(results / "estimated").finished().values()
    if row.state != "complete" or row.wall_time_s is None:
        raise RuntimeError(f"{case}: {row.state}: {row.reason}")
    return row.wall_time_s, computed


def _write(case: Case, folder: Path) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(json.dumps(case.sweep()))
    return path


def measure_case(case: Case, folder: Path, data_dir: Path) -> dict[str, Any]:
    """Return a row: the estimates of a case and what it took, twice."""
    folder.mkdir()

    def use_cache(name: str) -> None:
        os.environ["XDG_CACHE_HOME"] = str(folder / name)

    use_cache("probed")
    counted = estimate_s(case, folder, data_dir)
    probed = estimate_s(case, folder, data_dir, measure=True)
    use_cache("ran")
    wall_s, computed_s = run(case, folder, data_dir, "first")
    known = estimate_s(case, folder, data_dir)
    again_wall_s, again_computed_s = run(case, folder, data_dir, "second")
    names = ("arch", "image_size", "batch_size", "precision", "optimizer", "images", "epochs")
    return {
        **{name: getattr(case, name) for name in names},
        "seen": case.arch in SEEN,
        "counted_s": counted,
        "probe_s": probed,
        "trials_s": known,
        "wall_s": wall_s,
        "again_wall_s": again_wall_s,
        "computed_s": computed_s,
        "again_computed_s": again_computed_s,
        "counted": counted / wall_s,
        "probe": probed / wall_s,
        "trials": known / again_wall_s,
        "control": wall_s / again_wall_s,
        "counted_to_computed": counted / computed_s,
        "probe_to_computed": probed / computed_s,
        "control_of_computed": computed_s / again_computed_s,
    }


def errors(rows: list[dict[str, Any]], how: str) -> list[float]:
    """Return how far estimates are off, whichever way: 0.5 for half as much again or two thirds."""
    return [max(row[how], 1 / row[how]) - 1 for row in rows]


def main() -> None:
    """Measure every case, print the errors and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four trials, printed only")
    quick = parser.parse_args().quick
    import torch

    torch.set_num_threads(1)
    machine = environment()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(folder / "warm-up")
        (folder / "0").mkdir()
        run(CASES[4], folder / "0", folder, "warm-up")  # the first run imports everything
        for number, case in enumerate(CASES[::5] if quick else CASES, 1):
            rows.append(measure_case(case, folder / str(number), folder))
            parts = ", ".join(f"{how} {rows[-1][how]:.2f}" for how in HOW)
            print(f"{case.arch} {case.image_size} {case.batch_size}: {parts}", flush=True)
    write_csv(None if quick else RESULTS / "estimate.csv", [{**row, **machine} for row in rows])
    for how in HOW + COMPUTED:
        off = errors(rows, how)
        unseen = errors([row for row in rows if not row["seen"]], how) or off
        print(
            f"{how}: median error {median(off):.0%} (networks not seen before {median(unseen):.0%})"
            f", largest {max(off):.0%}"
        )


if __name__ == "__main__":
    main()
