"""Where the images of a data set come from, by the name in the sweep file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnncore.catalog import DATASETS, unknown_name
from cnncore.data import function, imagefolder
from cnncore.data.errors import DataError

FOLDER_PREFIX = "imagefolder:"


@dataclass(frozen=True)
class DatasetInfo:
    """What can be known of a data set without decoding it.

    `fingerprint` is a hash of the files of an image folder, which counts by content and not by
    path; None for the others.
    """

    name: str
    classes: tuple[str, ...] | None
    class_count: int
    image_size: int
    fingerprint: str | None


@dataclass(frozen=True)
class Source:
    """One data set: what is known of it, and how to read it.

    `info` is None where only reading tells (a user's function). `key` names its decoded copy.
    `check` raises `DataError` where the files are absent; `read(workspace)` returns
    `ImageArrays`, and may keep arrays that are too large for memory as `.npy` files in
    `workspace`.
    """

    name: str
    info: DatasetInfo | None
    key: str | None
    check: Callable[[], None]
    read: Callable[[Path | None], Any]


def open_source(name: str, data_dir: Path, roots: list[Path], image_size: int | None) -> Source:
    """The source that `name` names; `roots` are the folders where decoded copies are kept.

    Raises `DataError` for an unknown name and for a folder that is not laid out as it must be.
    """
    if name in DATASETS:
        return _built_in(name, data_dir)
    if name.startswith(FOLDER_PREFIX):
        return _folder(name, data_dir, roots, image_size)
    if ":" in name:
        return Source(name, None, None, lambda: None, lambda _: function.call(name))
    known = unknown_name("data set", name, DATASETS)
    raise DataError(f"{known}, {FOLDER_PREFIX}PATH or package.module:function")


def _built_in(name: str, data_dir: Path) -> Source:
    """A data set of the catalog; its module has `CLASS_NAMES` and `check_files` beside `load`."""
    entry = DATASETS[name]
    module_name, _, read = entry.load.partition(":")
    module = importlib.import_module(module_name)
    return Source(
        name=name,
        info=DatasetInfo(name, module.CLASS_NAMES, entry.classes, entry.image_size, None),
        key=name,
        check=lambda: module.check_files(data_dir),
        read=lambda _: getattr(module, read)(data_dir),
    )


def _folder(name: str, data_dir: Path, roots: list[Path], image_size: int | None) -> Source:
    if image_size is None:
        raise DataError(f"{name}: image_size must be set; its images are cut to that size")
    files = imagefolder.list_files(name, name.removeprefix(FOLDER_PREFIX), data_dir)
    fingerprint = imagefolder.fingerprint(files, roots)
    classes = files.classes
    return Source(
        name=name,
        info=DatasetInfo(name, classes, len(classes), image_size, fingerprint),
        key=f"imagefolder-{fingerprint}-{image_size}",
        check=lambda: None,
        read=lambda workspace: imagefolder.read_images(files, image_size, workspace),
    )
