"""Checkpoint files, written atomically and read without running code."""

from __future__ import annotations

import contextlib
import os
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from cnncore.regular_file import check_regular


class DamagedCheckpoint(Exception):
    """Error for a checkpoint file that exists but cannot be read; the message names it."""


def save_checkpoint(path: str | PathLike[str], payload: dict[str, Any]) -> None:
    """Write `payload` (tensors and plain values) atomically: after a crash the file is old or new.

    Creates the folder if it is missing. Raises `OSError` if the disk refuses.
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
        # torch's writer reports a full disk as an unexpected position; the cause is its context.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def load_checkpoint(path: str | PathLike[str], *, checksums: bool = True) -> dict[str, Any] | None:
    """Return the payload, its tensors on the CPU, or None if there is no file.

    Only tensors and plain values are read, so a stranger's file cannot run code. With `checksums`
    the content is compared with the file's own, which `torch.save` writes unless told not to.
    Raises `DamagedCheckpoint` if the file is truncated, was changed or is no checkpoint.
    """
    try:
        check_regular(path)
        _check_size(path)
        if checksums:
            _verify(path)
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch raises many types, depending on the damage
        # Without torch's advice to read the file in a way that runs its code.
        reason = str(error).partition("\n")[0].partition(" In PyTorch ")[0]
        raise DamagedCheckpoint(f"{path}: {type(error).__name__}: {reason}") from error
    if not isinstance(payload, dict):
        raise DamagedCheckpoint(f"{path}: holds a {type(payload).__name__}, not a checkpoint")
    return payload


def _check_size(path: str | PathLike[str]) -> None:
    """Raise `ValueError` if a file claims to hold more than it can: torch does not compress."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > os.path.getsize(path):
            raise ValueError(f"it unpacks to {size:,} bytes, more than the file has")


def _verify(path: str | PathLike[str]) -> None:
    """Compare each entry of a checkpoint with its CRC-32; `torch.load` reads without a look at it.

    Raises `zipfile.BadZipFile`.
    """
    with zipfile.ZipFile(path) as archive:
        if entry := archive.testzip():
            raise zipfile.BadZipFile(f"the content of {entry} was changed")
