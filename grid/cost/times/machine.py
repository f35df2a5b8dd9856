"""What is known of this machine's speed, kept in the user's cache folder.

The speed of single operations is measured once (`cnncore/training/speed/machine.py`), and again as
long as the machine was busy meanwhile. The cache lies in `cnngrid/speed` of `$XDG_CACHE_HOME` or
`~/.cache`; without a folder that can be written nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grid.errors import StoreError
from grid.store.atomic import read_json, write_whole

if TYPE_CHECKING:
    from cnncore.training.speed.machine import MachineSpeed

# Part of the files' names: a change of what is stored measures anew.
FORMAT = 1
# Share of the processors above which other work is told to have disturbed a measurement.
BUSY = 0.25


def speed_folder() -> Path:
    """Return the folder of what is known of this machine's speed; it may not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cnngrid" / "speed"


def device_key(device: str) -> str:
    """Return the model of a device, `cpu` or `cuda`: machines of one model are alike."""
    import torch

    from cnncore.measure.device import device_name

    return device_name(torch.device(device))


def machine_speed(device: str, threads: int, precision: str, beside: int) -> MachineSpeed:
    """Return the speed of operations with `threads` threads, where `beside` trials run at a time.

    Takes it from the cache if it was measured on a quiet machine, else measures; loads torch.
    """
    from cnncore.process_settings import unchanged
    from cnncore.training.openmp import use_threads
    from cnncore.training.speed.machine import measure_speed

    import torch  # isort: skip

    what = [FORMAT, device_key(device), threads, precision, beside, version("torch")]
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    path = speed_folder() / f"machine-{name}.json"
    known = _read(read_json(path))
    if known is not None and known.busy <= BUSY:
        return known
    with unchanged():
        use_threads(threads)
        measured = measure_speed(torch.device(device), precision, beside)
    if known is not None and known.busy < measured.busy:
        return known
    with contextlib.suppress(StoreError):
        write_whole(path, json.dumps(asdict(measured)).encode(), flush=False)
    return measured


def _read(content: dict[str, Any]) -> MachineSpeed | None:
    """Return what a file of the cache says; None if it is absent, damaged or of another version."""
    from cnncore.training.speed.machine import MachineSpeed

    try:
        return MachineSpeed(
            forward={str(kind): float(value) for kind, value in content["forward"].items()},
            backward={str(kind): float(value) for kind, value in content["backward"].items()},
            passes={int(size): float(value) for size, value in content["passes"].items()},
            overhead={
                str(kind): (float(a), float(b)) for kind, (a, b) in content["overhead"].items()
            },
            beside=int(content["beside"]),
            together={str(kind): float(value) for kind, value in content["together"].items()},
            busy=float(content["busy"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
