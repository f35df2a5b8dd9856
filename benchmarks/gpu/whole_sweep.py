"""A small sweep through `grid` on the GPU, in this process: the store, resuming, the doctor.

    python3 -m benchmarks.gpu.whole_sweep FOLDER

Rows are read with pyarrow; neither Ray, Optuna, DuckDB nor Altair is needed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq

from grid import load_sweep, run_sweep
from grid.cli.doctor import check_machine

SWEEP = """
sweep: gpu
compare: {arch: [cnn3, mobilenet_small, resnet18], precision: [fp32, bf16]}
fixed:
  {dataset: digits, image_size: 32, optimizer: sgd, lr: 0.05, epochs: 3, augment: [crop, flip]}
seeds: [0, 1]
"""
COLUMNS = (
    *("arch", "precision", "seed", "state", "reason", "test_top1", "train_images_per_s"),
    *("epoch_time_s", "latency_ms_p50", "batch16_latency_ms", "peak_memory_mib", "energy_j"),
    *("device", "wall_time_s"),
)


def main() -> None:
    """Run the sweep in a folder under /tmp; write its rows to FOLDER/sweep.json."""
    out = Path(sys.argv[1]).resolve()
    folder = Path("/tmp/sweep")
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    (folder / "sweep.yaml").write_text(SWEEP)
    for result in check_machine():
        print(result)
    results = folder / "results"
    print(run_sweep(load_sweep(folder / "sweep.yaml"), results=results, local=True))
    rows = []
    for path in sorted((results / "gpu" / "trials").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            rows.append({column: row[column] for column in COLUMNS})
            print(rows[-1])
    (out / "sweep.json").write_text(json.dumps(rows, indent=1, default=str))


if __name__ == "__main__":
    main()
