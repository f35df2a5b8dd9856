"""A data set by name: is it there, prepare it once per machine, load it in every trial."""

from __future__ import annotations

import functools
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from cnncore.catalog import check_labels
from cnncore.data.cache import ImageData, cache_roots, make_copy, open_copy
from cnncore.data.errors import DataError, DataMissing
from cnncore.data.source import DatasetInfo, label_set, open_source


def check_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    *,
    skip_unreadable: bool = False,
) -> DatasetInfo:
    """What is known of data set `name` before it is decoded; loads no torch.

    `name` is one of the catalog, `imagefolder:PATH` or `package.module:function`; only the last
    is read for it (the function is called), and the images of a folder with `skip_unreadable`,
    which leaves those out that cannot be decoded. Raises `DataMissing` where `prepare_dataset` may
    be able to download the files, and `DataError` where the data cannot be used.
    """
    folder = Path(data_dir).expanduser()
    roots = cache_roots(folder)
    source = open_source(name, folder, roots, image_size, skip_unreadable=skip_unreadable)
    if source.info is None:
        data = load_dataset(name, data_dir, image_size)
        side = data.train_images.shape[1]
        return DatasetInfo(name, data.class_names, len(data.class_names), side, None)
    try:
        source.check()
    except DataMissing:
        if source.key is None or open_copy(name, source.key, roots) is None:
            raise
    return source.info


def prepare_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    *,
    skip_unreadable: bool = False,
) -> ImageData:
    """Download the data set if need be and decode it, once per machine, before the trials.

    `image_size` is the side to which the images of a folder are cut; the others keep theirs.
    Raises `DataError`.
    """
    return load_dataset(name, data_dir, image_size, skip_unreadable=skip_unreadable)


def load_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    labels: str | None = None,
    *,
    skip_unreadable: bool = False,
) -> ImageData:
    """The decoded data set, memory-mapped; prepared first where that was not done.

    `labels` names one of the label sets of the catalog, where a data set has several; the images
    are the same. Cheap when called again in the same process. Raises `DataError`.
    """
    folder = str(Path(data_dir).expanduser().absolute())
    data = _load(name, folder, image_size, skip_unreadable)
    return data if labels is None else _relabelled(data, labels)


def smallest_class(data: ImageData) -> tuple[str, int]:
    """Name and number of training images of the class that has the fewest."""
    counts = np.bincount(data.train_labels, minlength=len(data.class_names))
    fewest = int(counts.argmin())
    return data.class_names[fewest], int(counts[fewest])


@functools.lru_cache(maxsize=8)
def _load(
    name: str, data_dir: str, image_size: int | None, skip_unreadable: bool = False
) -> ImageData:
    roots = cache_roots(Path(data_dir))
    source = open_source(name, Path(data_dir), roots, image_size, skip_unreadable=skip_unreadable)
    info = source.info
    data = open_copy(name, source.key, roots) if source.key is not None else None
    if data is None:
        data = make_copy(name, source.key, info.fingerprint if info else None, roots, source.read)
    return replace(data, skipped=info.skipped) if info and info.skipped else data


@functools.lru_cache(maxsize=8)
def _relabelled(data: ImageData, labels: str) -> ImageData:
    """The same images under another of the data set's label sets."""
    if problem := check_labels(data.name, labels):
        raise DataError(problem)
    class_names, label_of = label_set(data.name, labels)
    return replace(
        data,
        class_names=class_names,
        train_labels=label_of[data.train_labels],
        test_labels=label_of[data.test_labels],
    )
