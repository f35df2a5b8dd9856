"""The OpenMP library that torch computes with, and its number of threads."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch


def use_threads(count: int) -> None:
    """Compute with exactly `count` threads, because their number is part of a result.

    Settings of the environment could make them fewer without a word: `OMP_DYNAMIC` is overruled,
    `OMP_THREAD_LIMIT` cannot be. Raises `ValueError` if it is too low.
    """
    torch.set_num_threads(count)
    if library := openmp():
        library.omp_set_dynamic(0)
        if (limit := library.omp_get_thread_limit()) < count:
            raise ValueError(
                f"OMP_THREAD_LIMIT={limit} in the environment allows fewer threads than a trial "
                f"has ({count}, resources.cpus); unset it"
            )


def openmp() -> Any:
    """Return the GNU OpenMP library that this process has loaded for torch, None without one."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if "libgomp" in line}
    # Other packages bring a libgomp of their own, which torch does not use.
    ours = [path for path in sorted(paths) if "torch" in Path(path).parts] or sorted(paths)
    library = ctypes.CDLL(ours[0]) if ours else None
    return library if library and hasattr(library, "GOMP_parallel") else None
