"""Checkpoints on disk: whole or not there, and read without running code."""

from __future__ import annotations

import contextlib
import os
from os import PathLike
from pathlib import Path
from typing import Any

import torch


class DamagedCheckpoint(Exception):
    """A checkpoint file that is there but cannot be read; the message names it."""


def save_checkpoint(path: str | PathLike[str], payload: dict[str, Any]) -> None:
    """Write `payload` (tensors and plain values) so that a crash leaves the old file or the new.

    The folder is made where it is missing. Raises `OSError` where the disk refuses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except RuntimeError as error:
        # torch's writer calls a full disk an unexpected position; why is behind it.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def load_checkpoint(path: str | PathLike[str]) -> dict[str, Any] | None:
    """The payload, its tensors on the CPU, or None where there is no file.

    Only tensors and plain values are read, so a file from elsewhere cannot run code. Raises
    `DamagedCheckpoint` for a file that is cut short or is something else.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch raises many kinds, by where the damage lies
        reason = str(error).partition("\n")[0]
        raise DamagedCheckpoint(f"{path}: {type(error).__name__}: {reason}") from error
    if not isinstance(payload, dict):
        raise DamagedCheckpoint(f"{path}: holds a {type(payload).__name__}, not a checkpoint")
    return payload
