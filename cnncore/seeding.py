"""Random streams of a trial, all derived from its one seed."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return the seed, in [0, 2**63), of the stream called `names`, such as `"crop", epoch`.

    It is the first 63 bits of a SHA-256. So the streams of nearby seeds or epochs are unrelated,
    and the value is the same in every process and on every machine.
    """
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (on every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_epoch(seed: int) -> None:
    """Seed the global generators without waiting for a device, so cheaply for every epoch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types here
        torch.cuda.manual_seed_all(seed)
