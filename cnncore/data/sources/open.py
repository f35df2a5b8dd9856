"""The source of a data set's images, by the name in the sweep file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnncore.catalog import DATASETS, unknown_name
from cnncore.data.arrays import Labels
from cnncore.data.errors import DataError
from cnncore.data.folders import imagefolder

FOLDER_PREFIX = "imagefolder:"


def is_function(name: str) -> bool:
    """Tell a user's function (`cnncore/data/own_data.py`) from the data sets of `open_source`."""
    return ":" in name and not name.startswith(FOLDER_PREFIX)


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that are known without decoding it.

    `fingerprint` is a hash of the content if the name alone does not identify the images: image
    folders, files that differ from the published ones, a user's function. Otherwise it is None.
    `classes` are those of the default labels. `skipped` counts unreadable image files that are left
    out, `validation` images of a validation split of its own. `contents` says what a folder holds,
    and `notes` what a person may not expect of it.
    """

    name: str
    classes: tuple[str, ...] | None
    class_count: int
    image_size: int
    fingerprint: str | None
    skipped: int = 0
    validation: int = 0
    contents: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One data set: its facts and its reader.

    `key` names the decoded copy. `check` raises `DataError` if the files are missing.
    `read(workspace)` returns `ImageArrays`; it may store arrays that are too large for memory as
    `.npy` files in `workspace`.
    """

    name: str
    info: DatasetInfo
    key: str
    check: Callable[[], None]
    read: Callable[[Path | None], Any]


def open_source(
    name: str,
    data_dir: Path,
    roots: list[Path],
    image_size: int | None,
    *,
    skip_unreadable: bool = False,
) -> Source:
    """Return the source called `name`; `roots` are the folders of the decoded copies.

    With `skip_unreadable` a folder's image files that cannot be decoded are left out. Raises
    `DataError` for an unknown name or a folder in another layout.
    """
    if name in DATASETS and DATASETS[name].folder:
        image_size = image_size or DATASETS[name].image_size
        files = _catalog_function(name)(data_dir, roots, skip_unreadable)
        return _folder(name, files, image_size)
    if name in DATASETS:
        return _arrays(name, data_dir, roots)
    if name.startswith(FOLDER_PREFIX):
        if image_size is None:
            raise DataError(f"{name}: image_size must be set; its images are cut to that size")
        path = name.removeprefix(FOLDER_PREFIX)
        files = imagefolder.list_files(name, path, data_dir, roots, skip_unreadable)
        return _folder(name, files, image_size)
    known = unknown_name("data set", name, DATASETS)
    raise DataError(f"{known}, {FOLDER_PREFIX}PATH or package.module:function")


def label_set(name: str, labels: str) -> tuple[tuple[str, ...], Labels]:
    """Return one label set of a data set of the catalog.

    The result is its class names, and its label for each of the data set's default classes.
    """
    class_names, label_of = _module(name).LABEL_SETS[labels]
    return class_names, label_of


def _module(name: str) -> Any:
    return importlib.import_module(DATASETS[name].load.partition(":")[0])


def _catalog_function(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(_module(name), DATASETS[name].load.partition(":")[2])
    return function


def _arrays(name: str, data_dir: Path, roots: list[Path]) -> Source:
    """Return a data set of the catalog whose module has `CLASS_NAMES` and `check_files`.

    A module with `FILES` also accepts files that differ from the published ones.
    """
    entry, module, read = DATASETS[name], _module(name), _catalog_function(name)
    published = getattr(module, "FILES", None)
    fingerprint = published.fingerprint(data_dir, roots) if published else None
    return Source(
        name=name,
        info=DatasetInfo(name, module.CLASS_NAMES, entry.classes, entry.image_size, fingerprint),
        key=f"{name}-{fingerprint}" if fingerprint else name,
        check=lambda: module.check_files(data_dir),
        read=lambda _: read(data_dir),
    )


def _folder(name: str, files: imagefolder.FolderFiles, image_size: int) -> Source:
    return Source(
        name=name,
        info=DatasetInfo(
            name=name,
            classes=files.classes,
            class_count=len(files.classes),
            image_size=image_size,
            fingerprint=files.fingerprint,
            skipped=files.skipped,
            validation=files.validation,
            contents=files.contents,
            notes=files.notes,
        ),
        key=f"imagefolder-{files.fingerprint}-{image_size}",
        check=lambda: None,
        read=lambda workspace: imagefolder.read_images(files, image_size, workspace),
    )
