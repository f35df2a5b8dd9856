"""Recorded learning curves: every configuration of a grid in four cells, trained to its end.

cnngrid run benchmarks/inputs/curves.yaml
python -m benchmarks.search.curves results/curves      # writes benchmarks/inputs/curves.parquet
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from grid.plan.ids import Trial
from grid.plan.plan import Plan, expand_sweep
from grid.sweep.load import parse_sweep

FILE = Path(__file__).parents[1] / "inputs" / "curves.parquet"

Cell = tuple[str, str]
Config = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One configuration: validation accuracy by epoch and the best epoch's test accuracy."""

    val_top1: tuple[float, ...]
    seconds: float
    test_top1: float | None
    diverged: bool = False

    @property
    def final(self) -> float:
        """Validation accuracy of the best epoch, by which configurations are chosen."""
        return max(self.val_top1, default=0.0)


@dataclass
class Curves:
    """All curves, by cell (architecture, optimizer) and config (learning rate, weight decay)."""

    cells: dict[Cell, dict[Config, Curve]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Number of epochs of a whole curve."""
        return max(len(curve.val_top1) for cell in self.cells.values() for curve in cell.values())

    @property
    def configs(self) -> int:
        """Number of configurations of a cell."""
        return len(next(iter(self.cells.values())))

    def of(self, trial: Trial) -> Curve:
        """Return the curve of a replayed trial."""
        config = trial.config
        assert config.weight_decay is not None
        return self.cells[config.arch, config.optimizer][config.lr, config.weight_decay]

    def value(self, trial: Trial, epoch: int) -> float | str:
        """Return the trial's validation accuracy after an epoch, or `diverged`."""
        curve = self.of(trial)
        if curve.diverged and epoch > len(curve.val_top1):
            return "diverged"
        return curve.val_top1[epoch - 1]

    @cached_property
    def seconds_by_arch(self) -> dict[str, float]:
        """Median seconds of an epoch; the machine was shared, so single times mean little."""
        archs = {arch for arch, _ in self.cells}
        return {
            arch: median(
                curve.seconds for cell, curves in self.cells.items() if cell[0] == arch
                for curve in curves.values()
            )
            for arch in archs
        }  # fmt: skip

    def plan(self, sampler: str, stop: str = "", trials: int | None = None, seed: int = 0) -> Plan:
        """Return the plan of a sweep over these cells; the tuned axes are the recorded values."""
        archs = sorted({arch for arch, _ in self.cells})
        optimizers = sorted({optimizer for _, optimizer in self.cells})
        configs = next(iter(self.cells.values()))
        rates, decays = (sorted({config[n] for config in configs}) for n in (0, 1))
        text = json.dumps(
            {
                "sweep": "replay",
                "compare": {"arch": archs, "optimizer": optimizers},
                "tune": {
                    "trials": trials or self.configs,
                    "sampler": sampler,
                    "seed": seed,
                    "axes": {"lr": rates, "weight_decay": decays},
                },
                "fixed": {"dataset": "cifar10", "image_size": 32, "epochs": self.epochs},
                **({"stop": json.loads(stop)} if stop else {}),
            }
        )
        return expand_sweep(parse_sweep(text), fake_dataset)


class FakeDataset:
    """The facts about a data set that a plan reads."""

    image_size, class_count, fingerprint, skipped, validation = 32, 10, None, 0, 0
    classes: tuple[str, ...] | None = None
    contents = decoded = ""
    notes: tuple[str, ...] = ()


def fake_dataset(name: str, image_size: int | None) -> FakeDataset:
    """Return the facts in place of a data set, which a replay does not read."""
    return FakeDataset()


def read(path: Path = FILE) -> Curves:
    """Read the recorded curves."""
    curves = Curves()
    for row in pq.read_table(path).to_pylist():
        cell = curves.cells.setdefault((row["arch"], row["optimizer"]), {})
        cell[row["lr"], row["weight_decay"]] = Curve(
            tuple(row["val_top1"]), row["epoch_s"], row["test_top1"], row["state"] == "diverged"
        )
    return curves


QUERY = """
SELECT t.arch, t.optimizer, t.lr, t.weight_decay, t.state, t.test_top1,
    list(e.val_top1 ORDER BY e.epoch) AS val_top1,
    median(e.train_time_s + e.eval_time_s) AS epoch_s
FROM trials AS t JOIN epochs AS e USING (trial_id)
GROUP BY ALL ORDER BY ALL
"""


def record(folder: Path, path: Path = FILE) -> int:
    """Write the curves of a results folder and return their number."""
    from analysis import open_results
    from analysis.results.database import rows

    curves: Iterable[dict[str, object]] = rows(open_results(folder), QUERY)
    table = pa.Table.from_pylist(
        list(curves),
        schema=pa.schema(
            [
                *((name, pa.string()) for name in ("arch", "optimizer")),
                *((name, pa.float64()) for name in ("lr", "weight_decay")),
                ("state", pa.string()),
                ("test_top1", pa.float64()),
                ("val_top1", pa.list_(pa.float64())),
                ("epoch_s", pa.float64()),
            ]
        ),
    )
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


if __name__ == "__main__":
    print(f"{record(Path(sys.argv[1]))} curves in {FILE}")
