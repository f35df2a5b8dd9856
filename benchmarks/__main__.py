"""Run the benchmarks named on the command line, or all: `python -m benchmarks [NAME ...]`.

Options of a benchmark follow its name: `python -m benchmarks scale --trials 1000`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

# Name: module. The benchmarks in gpu/ need a GPU and run apart (gpu/README.md).
BENCHMARKS = {
    "ahead": "benchmarks.search.bench_ahead",
    "augment": "benchmarks.training.bench_augment",
    "augmentation": "benchmarks.training.bench_augmentation",
    "busy": "benchmarks.training.bench_busy",
    "commands": "benchmarks.sweeps.bench_commands",
    "decode": "benchmarks.training.bench_decode",
    "estimate": "benchmarks.sweeps.bench_estimate",
    "overhead": "benchmarks.sweeps.bench_overhead",
    "replay": "benchmarks.search.bench_replay",
    "scale": "benchmarks.sweeps.bench_scale",
    "scheduling": "benchmarks.sweeps.bench_scheduling",
    "slurm": "benchmarks.clusters.bench_slurm",
    "storm": "benchmarks.clusters.bench_storm",
    "training": "benchmarks.training.bench_training",
}


def main() -> int:
    """Run each benchmark in a process of its own; return 1 if any failed."""
    known = list(BENCHMARKS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    arguments, more = parser.parse_known_args()
    if more and len(arguments.names) != 1:
        parser.error(f"{more[0]}: options of a benchmark need its name alone")
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    quick = ["--quick"] if arguments.quick else []
    failed = 0
    for name in arguments.names or known:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", BENCHMARKS[name], *quick, *more]
        failed |= subprocess.run(command).returncode
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
