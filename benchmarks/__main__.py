"""Run the benchmarks named on the command line, or all: `python -m benchmarks [NAME ...]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PREFIX = "bench_"


def main() -> int:
    """Run each benchmark in a process of its own; 1 where any failed."""
    known = sorted(
        path.stem.removeprefix(PREFIX) for path in Path(__file__).parent.glob(f"{PREFIX}*.py")
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    quick = ["--quick"] if arguments.quick else []
    failed = 0
    for name in arguments.names or known:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{PREFIX}{name}", *quick]
        failed |= subprocess.run(command).returncode
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
