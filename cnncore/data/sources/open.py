"""The source of a data set's images, by the name in the sweep file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnncore.catalog import DATASETS, unknown_name
from cnncore.config.images import Background, Resize
from cnncore.data.arrays import Labels
from cnncore.data.errors import DataError
from cnncore.data.folders.decoding import read_images
from cnncore.data.folders.picture_list import PictureList
from cnncore.data.framing import Framing
from cnncore.data.sources.kinds import picture_reader


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that are known without decoding it.

    `fingerprint` is a hash of the content if the name alone does not identify the images: image
    folders, files that differ from the published ones, a user's function. Otherwise it is None.
    `classes` are those of the default labels. `skipped` counts unreadable image files that are left
    out, `validation` images of a validation split of its own. `contents` says what a data set of
    pictures holds, and `notes` what a person may not expect of it.
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
    `.npy` files in `workspace`. `pictures` and `framing` are those of a data set of pictures, whose
    reader continues what lies in the workspace.
    """

    name: str
    info: DatasetInfo
    key: str
    check: Callable[[], None]
    read: Callable[[Path | None], Any]
    pictures: PictureList | None = None
    framing: Framing | None = None


def open_source(
    name: str,
    data_dir: Path,
    roots: list[Path],
    image_size: int | None,
    *,
    skip_unreadable: bool = False,
    resize: Resize | None = None,
    background: Background | None = None,
) -> Source:
    """Return the source called `name`; `roots` are the folders of the decoded copies.

    With `skip_unreadable` pictures that cannot be decoded are left out. Raises `DataError` for an
    unknown name or files in another layout, `DataMissing` if torchvision can download them.
    """
    if name in DATASETS and DATASETS[name].folder:
        files = _catalog_function(name)(data_dir, roots, skip_unreadable)
        side = image_size or DATASETS[name].image_size
        return _pictures(name, files, Framing(side, resize, background), roots)
    if name in DATASETS:
        return _arrays(name, data_dir, roots)
    if reader := picture_reader(name):
        if image_size is None:
            raise DataError(f"{name}: image_size must be set; its images are cut to that size")
        files = _function(reader)(name, data_dir, roots, skip_unreadable)
        return _pictures(name, files, Framing(image_size, resize, background), roots)
    known = unknown_name("data set", name, DATASETS)
    raise DataError(f"{known}, {KINDS}")


KINDS = "torchvision:NAME, imagefolder:PATH, csv:FILE, parquet:PATH or package.module:function"


def label_set(name: str, labels: str) -> tuple[tuple[str, ...], Labels]:
    """Return one label set of a data set of the catalog.

    The result is its class names, and its label for each of the data set's default classes.
    """
    class_names, label_of = _module(name).LABEL_SETS[labels]
    return class_names, label_of


def _module(name: str) -> Any:
    return importlib.import_module(DATASETS[name].load.partition(":")[0])


def _catalog_function(name: str) -> Callable[..., Any]:
    return _function(DATASETS[name].load)


def _function(name: str) -> Callable[..., Any]:
    """Import one of our own functions by its name `module:function`."""
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
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


def _pictures(name: str, files: PictureList, framing: Framing, roots: list[Path]) -> Source:
    return Source(
        name=name,
        info=DatasetInfo(
            name=name,
            classes=files.classes,
            class_count=len(files.classes),
            image_size=framing.side,
            fingerprint=files.fingerprint,
            skipped=files.skipped,
            validation=files.validation,
            contents=files.contents,
            notes=files.notes,
        ),
        key=picture_key(files.fingerprint, framing),
        check=lambda: None,
        read=lambda workspace: read_images(files, framing, workspace, roots),
        pictures=files,
        framing=framing,
    )


def picture_key(fingerprint: str, framing: Framing) -> str:
    """Return the name of the decoded copy of pictures with this fingerprint."""
    return f"imagefolder-{fingerprint}-{framing.key}"
