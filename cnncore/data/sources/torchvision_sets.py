"""torchvision's own data sets: `torchvision:NAME`, with their official splits.

torchvision downloads the files, checks them and lists them; nothing of it is loaded once the answer
for these files is cached.
"""

from __future__ import annotations

import importlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cnncore.data.arrays import ImageArrays, checked
from cnncore.data.cache import ImageData, content_hash, content_key, make_copy, open_copy
from cnncore.data.errors import DataError, DataMissing
from cnncore.data.file_digests import cached_for
from cnncore.data.folders.listed_rows import SPLITS
from cnncore.data.folders.picture_list import PictureList, make_list
from cnncore.data.folders.pictures import suffixes
from cnncore.data.folders.places import Place
from cnncore.data.progress import tell_progress
from cnncore.data.sources.items import collect
from cnncore.data.sources.torchvision_table import VAL_AS_TEST, OfficialSet, find_set

# Part of the cached answers' names: a change of what is stored asks torchvision again.
FORMAT = 1


def list_official(
    name: str, data_dir: Path, roots: Iterable[Path], skip_unreadable: bool = False
) -> PictureList:
    """List the picture files of `torchvision:NAME`, ordered by class and path in each split.

    Raises `DataMissing` if the files are not there, which `download_official` may change.
    """
    official, roots = find_set(name), list(roots)

    def ask() -> str:
        opened = _open(name, official, data_dir)
        splits = {
            split: sorted(_files(official, dataset, data_dir), key=lambda own: (own[1], own[0]))
            for split, dataset in opened.items()
        }
        labels = {label for members in splits.values() for _, label in members}
        return json.dumps({"classes": _class_names(opened["train"], labels), "splits": splits})

    answer = json.loads(_cached(name, official, data_dir, roots, ask))
    splits: dict[str, list[tuple[Place, int]]] = {
        split: [(data_dir / path, label) for path, label in members]
        for split, members in answer["splits"].items()
    }
    return make_list(
        name,
        answer["classes"],
        splits,
        roots,
        index=f"torchvision\0{name}\0{data_dir}",
        skip_unreadable=skip_unreadable,
        notes=official_notes(official),
    )


def open_official_arrays(name: str, data_dir: Path, roots: list[Path]) -> ImageData:
    """Return a data set of images of one size, decoded, from its copy if there is one.

    Its fingerprint is that of its content. Raises `DataMissing` if the files are not there.
    """
    official = find_set(name)
    made: list[ImageData] = []

    def read(_: Path | None = None) -> tuple[ImageArrays, int]:
        return _arrays(name, _open(name, official, data_dir))

    def ask() -> str:
        arrays, validation = read()
        whole = checked(name, arrays)
        fingerprint = content_hash(whole)
        copy = make_copy(name, content_key(fingerprint), fingerprint, roots, lambda _: vars(whole))
        made.append(copy)
        return json.dumps({"fingerprint": fingerprint, "validation": validation})

    about = json.loads(_cached(name, official, data_dir, roots, ask))
    fingerprint, key = about["fingerprint"], content_key(about["fingerprint"])
    copy = made[0] if made else open_copy(name, key, roots)
    if copy is None:
        copy = make_copy(name, key, fingerprint, roots, lambda _: read()[0])
    return replace(copy, validation=about["validation"], notes=tuple(official_notes(official)))


def download_official(name: str, data_dir: Path) -> None:
    """Let torchvision download a data set's missing files. Raises `DataError` if it cannot."""
    official = find_set(name)
    if not official.downloads:
        raise _missing(name, official, data_dir, "torchvision cannot download it")
    try:
        (data_dir / official.root).mkdir(parents=True, exist_ok=True)
        for arguments in official.splits.values():
            _construct(official, data_dir, {**arguments, "download": True})
    except Exception as error:  # errors of the network, the disk, the archive, a missing library
        raise DataError(
            f"data set {name}: the download to {data_dir} failed: {error}; put its files there as "
            "torchvision would, or name the folder that holds them with --data"
        ) from error


def official_notes(official: OfficialSet) -> list[str]:
    """Say which official splits are taken for which split of a trial."""
    notes = []
    if official.splits == VAL_AS_TEST:
        notes.append(
            "its official val is the test split, as in published results (the labels of its own "
            "test images are not public); validation images come from train"
        )
    elif "val" in official.splits:
        notes.append(
            "its official validation split validates (val_fraction does not apply, `folds` divides "
            "training and validation images)"
        )
    if "test" not in official.splits:
        notes.append(
            "it has no official splits: a fixed fifth of the images of each class is the test split"
        )
    return [*notes, official.note] if official.note else notes


def _cached(
    name: str, official: OfficialSet, data_dir: Path, roots: list[Path], ask: Callable[[], str]
) -> str:
    """Return the answer of `ask`, cached until a folder, a list or an archive changes.

    Pictures themselves are not looked at here: each has its own entry in the index of pictures.
    """
    if not (data_dir / official.files[0]).exists():
        raise _missing(name, official, data_dir, f"{data_dir / official.files[0]} is not there")
    paths = []
    for file in official.files:
        for parent, folders, names in os.walk(data_dir / file):
            folders.sort()
            paths.append(Path(parent))
            paths += [Path(parent, own) for own in sorted(names) if not _is_picture(own)]
        if (data_dir / file).is_file():
            paths.append(data_dir / file)
    kind = f"{name.replace(':', '-')}-{version('torchvision')}-{FORMAT}"
    return cached_for(kind, paths, roots, ask)


def _is_picture(file: str) -> bool:
    return os.path.splitext(file)[1].lower() in suffixes()


def _open(name: str, official: OfficialSet, data_dir: Path) -> dict[str, Any]:
    """Return torchvision's data set of each split, without a download."""
    opened = {}
    for split in SPLITS:
        if split in official.splits:
            try:
                opened[split] = _construct(official, data_dir, official.splits[split])
            except Exception as error:  # what is missing or damaged raises many types
                if isinstance(error.__context__, ImportError):
                    package = error.__context__.name
                    raise DataError(
                        f"data set {name}: needs the package {package} to read its files: pip "
                        f"install {package}"
                    ) from error
                raise _missing(name, official, data_dir, str(error)) from error
    return opened


def _construct(official: OfficialSet, data_dir: Path, arguments: Mapping[str, Any]) -> Any:
    kind = getattr(importlib.import_module("torchvision.datasets"), official.class_name)
    given = {**official.more, **arguments}
    if official.class_name == "SEMEION":  # it alone downloads unless told not to
        given.setdefault("download", False)
    return kind(str(data_dir / official.root), **given)


def _missing(name: str, official: OfficialSet, data_dir: Path, reason: str) -> DataError:
    where = f"put its files there as {', '.join(official.files)}, in torchvision's layout, or name "
    where += "another data folder with --data"
    if not official.downloads:
        return DataError(f"data set {name} in {data_dir}: {reason}; {where}")
    return DataMissing(
        f"data set {name} in {data_dir}: {reason}; `cnngrid run` downloads it, or {where}"
    )


def _files(official: OfficialSet, dataset: Any, data_dir: Path) -> list[tuple[str, int]]:
    """Return the files of a split below the data folder, each with its label."""
    if official.pictures == "caltech101":
        paths: Sequence[Any] = [
            Path(dataset.root, "101_ObjectCategories", dataset.categories[y], f"image_{i:04}.jpg")
            for i, y in zip(dataset.index, dataset.y, strict=True)
        ]
    elif official.pictures == "caltech256":
        paths = [
            Path(
                dataset.root,
                "256_ObjectCategories",
                dataset.categories[y],
                f"{y + 1:03}_{i:04}.jpg",
            )
            for i, y in zip(dataset.index, dataset.y, strict=True)
        ]
    elif official.pictures == "inaturalist":
        folders = dataset.all_categories
        paths = [(Path(dataset.root, folders[y], file), y) for y, file in dataset.index]
    else:
        paths = getattr(dataset, official.pictures)
    pairs = zip(paths, getattr(dataset, official.labels), strict=True) if official.labels else paths
    base = str(data_dir)
    return [(os.path.relpath(path, base), int(label)) for path, label in pairs]


def _class_names(dataset: Any, labels: Iterable[int]) -> list[str]:
    """Return a name for each class, different from all others; numbers if there are no names."""
    lists = (getattr(dataset, name, None) for name in ("classes", "categories", "all_categories"))
    given = next(filter(None, lists), None)
    if not given:
        return [str(label) for label in range(max(labels) + 1)]
    names = [", ".join(item) if isinstance(item, (list, tuple)) else str(item) for item in given]
    often = Counter(names)
    ids = getattr(dataset, "wnids", None) or range(len(names))
    return [
        f"{item} ({number})" if often[item] > 1 else item
        for item, number in zip(names, ids, strict=True)
    ]


def _arrays(name: str, opened: Mapping[str, Any]) -> tuple[ImageArrays, int]:
    """Return the images of all splits, and how many of the last for training validate."""
    found = {}
    for split, dataset in opened.items():
        found[split] = collect(
            name, split, dataset, partial(tell_progress, f"reading {name} {split}")
        )
    train, val, test = (found.get(split) for split in SPLITS)
    assert train is not None
    images, labels = train
    if val is not None:
        images, labels = (np.concatenate(both) for both in zip(train, val, strict=True))
    every = [*labels, *(test[1] if test else ())]
    names = _class_names(opened["train"], map(int, every))
    if names[0] == "N/A":  # EMNIST-letters counts its 26 classes from 1
        names, labels = names[1:], labels - 1
        test = (test[0], test[1] - 1) if test else None
    arrays = ImageArrays(images, labels, names, *(test or (None, None)))
    return arrays, len(val[1]) if val is not None else 0
