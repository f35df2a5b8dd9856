"""Errors after which a process can use its GPU no more."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from cnncore.error_text import error_message
from cnncore.measure.memory import is_out_of_memory

# The CUDA runtime's words for errors after which "the process must be terminated and relaunched"
# (CUDA Runtime API, error codes 214 and 700 to 719), and what cuDNN and cuBLAS say after them.
# Before version 2.8 PyTorch raises them as plain RuntimeErrors, and libraries go on doing so.
BROKEN_MESSAGES = (
    "device-side assert triggered",
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "operation not supported on global/shared address space",
    "unspecified launch failure",
    "the launch timed out and was terminated",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_EXECUTION_FAILED",
)


def broken_device_error(error: BaseException) -> BaseException | None:
    """Return the error after which every later use of the GPU fails in this process, else None.

    It may be the cause of the exception that is given. All of PyTorch's `AcceleratorError`s count
    but for memory that ran out; some would leave the process usable, but a new one is cheap.
    """
    return next(filter(_breaks, _with_causes(error)), None)


def _breaks(error: BaseException) -> bool:
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    # From PyTorch 2.8 on.
    accelerator = getattr(torch, "AcceleratorError", ())
    return isinstance(error, accelerator) or any(
        message in error_message(error) for message in BROKEN_MESSAGES
    )


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised for: a network may catch and raise anew."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
