"""Recorded learning curves: every configuration of a grid in four cells, trained to its end.

cnngrid run benchmarks/inputs/curves.yaml
python -m benchmarks.curves results/curves      writes benchmarks/inputs/curves.parquet
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
from grid.plan.plan import Plan, make_plan
from grid.sweep.load import parse_sweep

FILE = Path(__file__).parent / "inputs" / "curves.parquet"

Cell = tuple[str, str]
Config = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One configuration: validation accuracy by epoch, and what its best epoch tested."""

    val_top1: tuple[float, ...]
    seconds: float
    test_top1: float | None
    diverged: bool = False

    @property
    def final(self) -> float:
        """What the configuration is chosen by: its best epoch's validation accuracy."""
        return max(self.val_top1, default=0.0)


@dataclass
class Curves:
    """All curves, by cell (architecture, optimizer) and config (learning rate, weight decay)."""

    cells: dict[Cell, dict[Config, Curve]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs of a whole curve."""
        return max(len(c.val_top1) for cell in self.cells.values() for c in cell.values())

    @property
    def configs(self) -> int:
        """Configurations of a cell."""
        return len(next(iter(self.cells.values())))

    def of(self, trial: Trial) -> Curve:
        """The curve of a replayed trial."""
        config = trial.config
        return self.cells[config.arch, config.optimizer][config.lr, config.weight_decay]

    def value(self, trial: Trial, epoch: int) -> float | str:
        """What the trial has after an epoch."""
        curve = self.of(trial)
        if curve.diverged and epoch > len(curve.val_top1):
            return "diverged"
        return curve.val_top1[epoch - 1]

    @cached_property
    def seconds_by_arch(self) -> dict[str, float]:
        """Median seconds of an epoch: the machine was shared, so single times mean little."""
        archs = {arch for arch, _ in self.cells}
        return {
            arch: median(
                c.seconds for cell, own in self.cells.items() if cell[0] == arch
                for c in own.values()
            )
            for arch in archs
        }  # fmt: skip

    def plan(self, tune: str, stop: str = "", trials: int | None = None, seed: int = 0) -> Plan:
        """A sweep over these cells whose tuned axes are the recorded values."""
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
                    "sampler": tune,
                    "seed": seed,
                    "axes": {"lr": rates, "weight_decay": decays},
                },
                "fixed": {"dataset": "cifar10", "image_size": 32, "epochs": self.epochs},
                **({"stop": json.loads(stop)} if stop else {}),
            }
        )
        return make_plan(parse_sweep(text), no_data)


class NoFacts:
    """What a plan asks of a data set."""

    image_size, fingerprint, skipped = 32, None, 0


def no_data(name: str, image_size: int | None) -> NoFacts:
    """Stands for the data set, which a replay does not read."""
    return NoFacts()


def read(path: Path = FILE) -> Curves:
    """The recorded curves."""
    curves = Curves()
    for row in pq.read_table(path).to_pylist():
        cell = curves.cells.setdefault((row["arch"], row["optimizer"]), {})
        cell[row["lr"], row["weight_decay"]] = Curve(
            tuple(row["val_top1"]), row["epoch_s"], row["test_top1"], row["state"] == "diverged"
        )
    return curves


QUESTION = """
SELECT t.arch, t.optimizer, t.lr, t.weight_decay, t.state, t.test_top1,
    list(e.val_top1 ORDER BY e.epoch) AS val_top1,
    median(e.train_time_s + e.eval_time_s) AS epoch_s
FROM trials AS t JOIN epochs AS e USING (trial_id)
GROUP BY ALL ORDER BY ALL
"""


def keep(folder: Path, path: Path = FILE) -> int:
    """Write the curves of a results folder; returns how many there are."""
    from analysis import open_results
    from analysis.results.database import rows

    found: Iterable[dict[str, object]] = rows(open_results(folder), QUESTION)
    table = pa.Table.from_pylist(
        list(found),
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
    print(f"{keep(Path(sys.argv[1]))} curves in {FILE}")
