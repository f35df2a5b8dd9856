"""Errors of a GPU told apart: memory that ran out, a broken context, and all others."""

import pytest
import torch

from cnncore.measure.device_errors import broken_device_error
from cnncore.measure.memory import is_out_of_memory

FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)
BROKEN = (
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    torch.AcceleratorError("CUDA error: an error of a later version"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
)
OTHERS = (
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    ValueError("CUDA error: device-side assert triggered"),
)


@pytest.mark.parametrize("error", [*FULL, *BROKEN, *OTHERS], ids=str)
def test_memory_a_broken_context_and_other_errors_are_told_apart(error: Exception) -> None:
    kinds = (is_out_of_memory(error), broken_device_error(error) is error)
    assert kinds == (error in FULL, error in BROKEN)


def test_a_broken_context_is_found_behind_the_error_that_a_network_made_of_it() -> None:
    wrapped = ValueError("the head failed")
    wrapped.__cause__ = BROKEN[0]
    assert broken_device_error(wrapped) is BROKEN[0]
