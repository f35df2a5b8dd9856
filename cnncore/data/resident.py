"""Images of a split where its batches are made: on the host, or in a GPU's memory if they fit."""

from __future__ import annotations

import functools
import gc
import warnings
from typing import Literal

import torch
from torch import Tensor

from cnncore.config import Enhance
from cnncore.data.augment.enhancement import enhanced
from cnncore.data.cache import ImageData

# Largest share of a GPU's free memory for the images of a split.
RESIDENT_SHARE = 0.25
# Splits that stay there at most.
MOST_RESIDENT = 4

Split = Literal["train", "test"]
# Images in a GPU's memory, shared by all trials of the process; the last used ones come last.
_RESIDENT: dict[tuple[ImageData, Split, torch.device, Enhance | None], Tensor] = {}


def split_images(
    data: ImageData, split: Split, device: torch.device, enhance: Enhance | None = None
) -> Tensor:
    """Return the images from which batches are made, shared by all trials of the process.

    `split` "train" includes the validation images. On a CPU the result is the read-only memory map,
    unless the images are enhanced. On a CUDA device they are copied to the device's memory, unless
    they take more than `RESIDENT_SHARE` of what is free there once images of other data are gone.
    """
    if device.type != "cuda":
        return _host_images(data, split, enhance)
    key = (data, split, device, enhance)
    if key in _RESIDENT:
        _RESIDENT[key] = images = _RESIDENT.pop(key)
        return images
    images = _host_images(data, split, enhance)
    if not _fits(images, device):
        drop_resident(keep=data)
        if not _fits(images, device):
            return images
    while len(_RESIDENT) >= MOST_RESIDENT:
        del _RESIDENT[next(iter(_RESIDENT))]
    _RESIDENT[key] = images = images.to(device)
    return images


def drop_resident(keep: ImageData | None = None) -> None:
    """Let go of all images in a GPU's memory but those of one data set; return it to the device."""
    for key in [key for key in _RESIDENT if key[0] is not keep]:
        del _RESIDENT[key]
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _fits(images: Tensor, device: torch.device) -> bool:
    """Check for room under what is free on the device and under this process's own limit."""
    free, total = torch.cuda.mem_get_info(device)
    limit = torch.cuda.get_per_process_memory_fraction(device) * total
    own = limit - torch.cuda.memory_reserved(device)
    return images.nbytes < RESIDENT_SHARE * min(free, own)


@functools.lru_cache(maxsize=4)
def _host_images(data: ImageData, split: Split, enhance: Enhance | None) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        images = torch.from_numpy(data.train_images if split == "train" else data.test_images)
    return images if enhance is None else enhanced(images, enhance)
