"""A data set by name: check it, prepare it once per machine, load it in every trial."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TypeVar

import numpy as np

from cnncore.catalog import DATASETS, check_labels
from cnncore.config import TrialConfig
from cnncore.config.images import Background, Resize
from cnncore.data.cache import ImageData, cache_roots, make_copy, open_copy, open_for, settle
from cnncore.data.copies.origins import Origin
from cnncore.data.errors import DataError, DataMissing
from cnncore.data.framing import Framing
from cnncore.data.own_data import open_own_data, remarks
from cnncore.data.sources.kinds import is_function, is_of_pictures, name_from
from cnncore.data.sources.open import (
    DatasetInfo,
    Source,
    label_set,
    open_source,
    picture_key,
)
from cnncore.data.sources.torchvision_sets import download_official, open_official_arrays
from cnncore.data.sources.torchvision_table import is_of_arrays, is_official

Opened = TypeVar("Opened")

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

    `name` is one of the catalog, `imagefolder:PATH`, `csv:FILE`, `parquet:PATH`, `torchvision:NAME`
    or `package.module:function`. A user's function is called, at every check. The files of pictures
    are read once, and again if they change; with `skip_unreadable` every picture is decoded as
    well, and those that cannot be decoded are left out. torchvision is asked, and its arrays are
    decoded, once. Raises `DataMissing` if `download_dataset` may be able to download the files,
    `DataError` if the data cannot be used.
    """
    folder = Path(data_dir).expanduser()
    roots = cache_roots(folder)
    if is_function(name) or is_of_arrays(name):
        data = (
            open_own_data(name, roots)
            if is_function(name)
            else open_official_arrays(name, folder.absolute(), roots)
        )
        return DatasetInfo(
            name=name,
            classes=data.class_names,
            class_count=len(data.class_names),
            image_size=data.train_images.shape[1],
            fingerprint=data.fingerprint,
            validation=data.validation,
            notes=(*data.notes, *(remarks(data) if is_function(name) else ())),
        )
    source = open_source(name, folder, roots, image_size, skip_unreadable=skip_unreadable)
    try:
        source.check()
    except DataMissing:
        if open_copy(name, source.key, roots) is None:
            raise
    return source.info


def download_dataset(name: str, data_dir: str | PathLike[str]) -> None:
    """Download a data set whose files are missing. Raises `DataError` if that fails."""
    if is_official(name):
        download_official(name, Path(data_dir).expanduser().absolute())
    else:
        prepare_dataset(name, data_dir)


def prepare_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    *,
    skip_unreadable: bool = False,
    fingerprint: str | None = ANY,
    resize: Resize | None = None,
    background: Background | None = None,
) -> ImageData:
    """Download the data set if necessary and decode it, once per machine, before the trials.

    `image_size`, `resize` and `background` say how pictures become square images; data sets of
    arrays keep their size. `fingerprint` as for `load_dataset`. Raises `DataError`.
    """
    return load_dataset(
        name,
        data_dir,
        image_size,
        skip_unreadable=skip_unreadable,
        fingerprint=fingerprint,
        resize=resize,
        background=background,
    )


def load_dataset(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None = None,
    labels: str | None = None,
    *,
    skip_unreadable: bool = False,
    fingerprint: str | None = ANY,
    resize: Resize | None = None,
    background: Background | None = None,
) -> ImageData:
    """Return the decoded data set, memory-mapped; prepare it first if necessary.

    `labels` names one of the data set's label sets in the catalog; the images do not depend on it.
    `fingerprint` is the one that `check_dataset` returned: other content is refused. A second call
    in the same process is cheap. Raises `DataError`.
    """
    folder = str(Path(data_dir).expanduser().absolute())
    data = _load(
        Planned(name, folder, image_size, skip_unreadable, fingerprint, resize, background)
    )
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
        resize=config.resize,
        background=config.background,
    )


def smallest_class(data: ImageData) -> tuple[str, int]:
    """Return the name and the number of training images of the smallest class."""
    counts = np.bincount(data.train_labels, minlength=len(data.class_names))
    fewest = int(counts.argmin())
    return data.class_names[fewest], int(counts[fewest])


@dataclass(frozen=True)
class Planned:
    """A data set as a plan names it: what decides its decoded copy.

    `data_dir` is absolute. `fingerprint` is the one that `check_dataset` returned, or `ANY`.
    """

    name: str
    data_dir: str
    image_size: int | None
    skip_unreadable: bool
    fingerprint: str | None
    resize: Resize | None
    background: Background | None


@functools.lru_cache(maxsize=8)
def _load(planned: Planned) -> ImageData:
    name, folder, fingerprint = planned.name, Path(planned.data_dir), planned.fingerprint
    roots = cache_roots(folder)
    if is_function(name):
        return open_own_data(name, roots, None if fingerprint == ANY else fingerprint)
    if is_of_arrays(name):
        data = _with_download(name, folder, lambda: open_official_arrays(name, folder, roots))
        _check_planned(planned, data.fingerprint)
        return data
    # The same name in the driver and in workers, which run elsewhere.
    own_name = name_from(name, folder, os.getcwd())
    origin = Origin(own_name, planned.data_dir, planned.skip_unreadable)
    key = planned_key(planned)
    if key and (copy := open_for(name, key, roots, origin)):
        return copy
    source = planned_source(planned)
    planned_source.cache_clear()  # a long list takes much memory
    if source.framing is None:
        copy = open_copy(name, source.key, roots)
        return copy or make_copy(name, source.key, source.info.fingerprint, roots, source.read)
    return _open_pictures(source, source.framing, roots, origin)


def _open_pictures(
    source: Source, framing: Framing, roots: list[Path], origin: Origin
) -> ImageData:
    """Return the decoded copy of pictures, and make it first if it is not there."""
    info = source.info
    origin = replace(origin, skipped=info.skipped, validation=info.validation)
    copy = open_copy(source.name, source.key, roots) or make_copy(
        *(source.name, source.key, info.fingerprint, roots, source.read),
        origin=origin,
        resumes=True,
    )
    settle(source.key, picture_key("?" * 16, framing), roots, origin)
    return replace(copy, skipped=info.skipped, validation=info.validation)


@functools.lru_cache(maxsize=1)
def planned_source(planned: Planned) -> Source:
    """Return the source of a data set; its pictures are listed once for several questions.

    Raises `DataError` if they are not those that were planned.
    """
    name, folder = planned.name, Path(planned.data_dir)
    source = _with_download(
        name,
        folder,
        lambda: open_source(
            name,
            folder,
            cache_roots(folder),
            planned.image_size,
            skip_unreadable=planned.skip_unreadable,
            resize=planned.resize,
            background=planned.background,
        ),
    )
    _check_planned(planned, source.info.fingerprint)
    return source


def planned_key(planned: Planned) -> str | None:
    """Return the name of the copy of planned pictures; None for others, or without a size."""
    name, side = planned.name, planned.image_size
    if planned.fingerprint in (None, ANY) or is_function(name) or not is_of_pictures(name):
        return None
    side = side or (DATASETS[name].image_size if name in DATASETS else None)
    framing = Framing(side, planned.resize, planned.background) if side else None
    return picture_key(str(planned.fingerprint), framing) if framing else None


def _with_download(name: str, folder: Path, open_it: Callable[[], Opened]) -> Opened:
    """Return what `open_it` returns; if torchvision's files are missing, download them first."""
    try:
        return open_it()
    except DataMissing:
        download_official(name, folder)
        return open_it()


def _check_planned(planned: Planned, found: str | None) -> None:
    """Raise `DataError` unless the data are those that the sweep was planned with."""
    if planned.fingerprint in (ANY, found):
        return
    raise DataError(
        f"data set {planned.name} in {planned.data_dir}: its files are not those that the sweep "
        f"was planned with (fingerprint {found or 'of the published files'}, planned "
        f"{planned.fingerprint or 'the published files'}); put the same files there on every "
        "machine, or run the sweep again, which plans it with the new ones"
    )


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
