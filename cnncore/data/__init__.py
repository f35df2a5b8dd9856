"""Data sets: checked, decoded once per machine, served as batches on the device.

The import loads no torch; `open_splits` and `Splits` load it at their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnncore.data.absent import published_info
from cnncore.data.arrays import ImageArrays
from cnncore.data.cache import ImageData
from cnncore.data.dataset import (
    check_dataset,
    download_dataset,
    load_dataset,
    load_planned,
    prepare_dataset,
    smallest_class,
)
from cnncore.data.errors import DataAbsent, DataError, DataMissing
from cnncore.data.sources.open import DatasetInfo, label_set
from cnncore.data.split_indices import SPLIT_KEYS, absent_classes
from cnncore.data.stratify import stratified_split, stratified_subset
from cnncore.data.undecoded import DecodingNeed, decoding_need, outline_planned

if TYPE_CHECKING:
    from cnncore.data.splits import Splits, open_splits

__all__ = [
    "SPLIT_KEYS",
    "DataAbsent",
    "DataError",
    "DataMissing",
    "DatasetInfo",
    "DecodingNeed",
    "ImageArrays",
    "ImageData",
    "Splits",
    "absent_classes",
    "check_dataset",
    "decoding_need",
    "download_dataset",
    "label_set",
    "load_dataset",
    "load_planned",
    "open_splits",
    "outline_planned",
    "prepare_dataset",
    "published_info",
    "smallest_class",
    "stratified_split",
    "stratified_subset",
]


def __getattr__(name: str) -> Any:
    if name in ("Splits", "open_splits"):
        from cnncore.data import splits

        return getattr(splits, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
