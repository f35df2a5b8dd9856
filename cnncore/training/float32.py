"""Arithmetic of 32-bit convolutions and matrix products."""

from __future__ import annotations

import os
from typing import Any

import torch

# The first NVIDIA GPUs with TF32, and with bf16 in hardware: compute capability 8.0, Ampere
# (CUDA C++ Programming Guide, "Features and Technical Specifications").
AMPERE = (8, 0)


def use_float32(precision: str, device: torch.device) -> None:
    """Let 32-bit products be IEEE's, or TensorFloat-32 for the precision `tf32`.

    Unasked, PyTorch lets cuDNN's convolutions round their inputs to TF32's 10 bits. Products that
    autocast turns to bf16 are not concerned. Raises `ValueError` if `device` has no TF32.
    """
    tf32 = precision == "tf32"
    if tf32 and (why := why_no_tf32(device.type)):
        raise ValueError(f"precision: tf32: {why}")
    kind = "tf32" if tf32 else "ieee"
    backends: Any = torch.backends  # torch types only some of its parts
    # Both of PyTorch's interfaces: the older getters raise if the two tell different things.
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    backends.cudnn.allow_tf32 = tf32
    owners = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    if not tf32:
        owners += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    for owner in owners:
        owner.fp32_precision = kind


def why_no_tf32(device: str) -> str | None:
    """Return the reason why `cpu` or `cuda` here computes no TF32; None if it does."""
    if device != "cuda":
        return "trials run on the CPU here, which has no TF32; use fp32"
    if torch.version.hip:
        return "AMD's GPUs have no TF32; use fp32"
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return "NVIDIA_TF32_OVERRIDE=0 in the environment turns TF32 off; unset it"
    return next(
        (f"{name} has no TF32 (from Ampere on); use fp32" for name in before_ampere()), None
    )


def before_ampere() -> list[str]:
    """Return the names of the visible GPUs without TF32 and bf16 in hardware."""
    return [
        torch.cuda.get_device_name(index)
        for index in range(torch.cuda.device_count())
        if not torch.version.hip and torch.cuda.get_device_capability(index) < AMPERE
    ]
