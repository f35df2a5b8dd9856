"""A data set by name: check it, prepare it once per machine, load it in every trial."""

from __future__ import annotations

import functools
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from cnncore.catalog import check_labels
from cnncore.config import TrialConfig
from cnncore.data.cache import ImageData, cache_roots, make_copy, open_copy
from cnncore.data.errors import DataError, DataMissing
from cnncore.data.own_data import open_own_data, remarks
from cnncore.data.sources.open import DatasetInfo, is_function, label_set, open_source

# A fingerprint that no content has: any content will do.
ANY = "any"


def check_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    *,
    skip_unreadable: bool = False,
) -> DatasetInfo:
    """Return the facts about data set `name` that are known before decoding; load no torch.

    `name` is one of the catalog, `imagefolder:PATH` or `package.module:function`. A user's function
    is called, at every check. The files of a folder are read once, and again if they change; with
    `skip_unreadable` every image is decoded as well, and those that cannot be decoded are left out.
    Raises `DataMissing` if `prepare_dataset` may be able to download the files, `DataError` if the
    data cannot be used.
    """
    folder = Path(data_dir).expanduser()
    roots = cache_roots(folder)
    if is_function(name):
        data = open_own_data(name, roots)
        side = data.train_images.shape[1]
        classes = data.class_names
        return DatasetInfo(name, classes, len(classes), side, data.fingerprint, notes=remarks(data))
    source = open_source(name, folder, roots, image_size, skip_unreadable=skip_unreadable)
    try:
        source.check()
    except DataMissing:
        if open_copy(name, source.key, roots) is None:
            raise
    return source.info


def prepare_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    *,
    skip_unreadable: bool = False,
    fingerprint: str | None = ANY,
) -> ImageData:
    """Download the data set if necessary and decode it, once per machine, before the trials.

    `image_size` is the side to which the images of a folder are cut; other data sets keep their
    size. `fingerprint` as for `load_dataset`. Raises `DataError`.
    """
    return load_dataset(
        name, data_dir, image_size, skip_unreadable=skip_unreadable, fingerprint=fingerprint
    )


def load_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    labels: str | None = None,
    *,
    skip_unreadable: bool = False,
    fingerprint: str | None = ANY,
) -> ImageData:
    """Return the decoded data set, memory-mapped; prepare it first if necessary.

    `labels` names one of the data set's label sets in the catalog; the images do not depend on it.
    `fingerprint` is the one that `check_dataset` returned: other content is refused. A second call
    in the same process is cheap. Raises `DataError`.
    """
    folder = str(Path(data_dir).expanduser().absolute())
    data = _load(name, folder, image_size, skip_unreadable, fingerprint)
    return data if labels is None else _relabelled(data, labels)


def load_planned(
    config: TrialConfig, data_dir: str | PathLike[str], *, skip_unreadable: bool = False
) -> ImageData:
    """Return the data of a planned config. Raises `DataError` if they are not those of the plan."""
    return load_dataset(
        config.dataset,
        data_dir,
        config.image_size,
        config.labels,
        skip_unreadable=skip_unreadable,
        fingerprint=config.data_fingerprint,
    )


def smallest_class(data: ImageData) -> tuple[str, int]:
    """Return the name and the number of training images of the smallest class."""
    counts = np.bincount(data.train_labels, minlength=len(data.class_names))
    fewest = int(counts.argmin())
    return data.class_names[fewest], int(counts[fewest])


@functools.lru_cache(maxsize=8)
def _load(
    name: str,
    data_dir: str,
    image_size: int | None,
    skip_unreadable: bool = False,
    fingerprint: str | None = ANY,
) -> ImageData:
    roots = cache_roots(Path(data_dir))
    if is_function(name):
        return open_own_data(name, roots, None if fingerprint == ANY else fingerprint)
    source = open_source(name, Path(data_dir), roots, image_size, skip_unreadable=skip_unreadable)
    info = source.info
    if fingerprint not in (ANY, info.fingerprint):
        raise DataError(
            f"data set {name} in {data_dir}: its files are not those that the sweep was planned "
            f"with (fingerprint {info.fingerprint or 'of the published files'}, planned "
            f"{fingerprint or 'the published files'}); put the same files there on every machine, "
            "or run the sweep again, which plans it with the new ones"
        )
    data = open_copy(name, source.key, roots)
    if data is None:
        data = make_copy(name, source.key, info.fingerprint, roots, source.read)
    if info.skipped or info.validation:
        return replace(data, skipped=info.skipped, validation=info.validation)
    return data


@functools.lru_cache(maxsize=8)
def _relabelled(data: ImageData, labels: str) -> ImageData:
    """Return the images with another of the data set's label sets."""
    if problem := check_labels(data.name, labels):
        raise DataError(problem)
    class_names, label_of = label_set(data.name, labels)
    return replace(
        data,
        class_names=class_names,
        train_labels=label_of[data.train_labels],
        test_labels=label_of[data.test_labels],
    )
