"""A CUDA device, real or pretended, and data for it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cnncore.data import load_dataset, resident
from tests.gpu.pretend_cuda import pretend_cuda

REAL = torch.cuda.is_available()


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """A CUDA device, real or pretended, with no images on it yet."""
    resident.drop_resident()
    torch.set_num_threads(1)  # sums in one order
    with contextlib.nullcontext() if REAL else pretend_cuda():
        yield torch.device("cuda")
    resident.drop_resident()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    load_dataset("digits", folder)
    return folder
