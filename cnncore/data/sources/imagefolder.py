"""A folder of image files, a sub-folder per class, with or without `train/` and `test/` above."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncore.data.arrays import TEST_FRACTION, TEST_SPLIT_SEED, ImageArrays, Images
from cnncore.data.errors import DataError
from cnncore.data.sources.file_digests import cached_for, files_digest
from cnncore.data.stratify import stratified_split
from cnncore.processors import machine_cpus
from cnncore.regular_file import check_regular

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test"})


@dataclass(frozen=True)
class FolderFiles:
    """The image files of both splits and their labels, in a fixed order."""

    name: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]


def list_files(name: str, path: str, data_dir: Path, without: Collection[Path] = ()) -> FolderFiles:
    """List the files of data set `name` at `path`, except those in `without`.

    `path` is absolute, or below `data_dir` or the current folder. Without `train/` and `test/` a
    fixed, stratified fifth of the images is the test split. Raises `DataError` for a folder in
    another layout.
    """
    expanded = Path(path).expanduser()
    candidates = [data_dir / expanded, Path.cwd() / expanded]
    root = next((folder for folder in candidates if folder.is_dir()), None)
    if root is None:
        folders_tried = " nor ".join(dict.fromkeys(str(folder) for folder in candidates))
        raise DataError(f"{name}: there is no folder {folders_tried}")
    folders = _folders(root)
    if {"train", "test"} <= set(folders):
        return _official_splits(name, root, folders, without)
    if set(folders) & SPLIT_NAMES:
        raise DataError(
            f"{name}: {root} holds {', '.join(folders)}; expected either train and test with the "
            "classes inside, or the classes themselves"
        )
    classes = _classes(name, root, folders)
    files = _files(name, root, classes, without)
    labels = np.array([label for _, label in files], np.int64)
    kept, held_out = stratified_split(labels, TEST_FRACTION, TEST_SPLIT_SEED)
    return FolderFiles(
        name, root, classes, tuple(files[i] for i in kept), tuple(files[i] for i in held_out)
    )


def fingerprint(files: FolderFiles, roots: Iterable[Path]) -> str:
    """Return 16 hex digits that change with a file's name, class or content (`files_digest`)."""
    paths = [path for path, _ in (*files.train, *files.test)]
    return files_digest(files.root, paths, roots, "sha256")


def unreadable(files: FolderFiles, roots: Iterable[Path]) -> frozenset[Path]:
    """Return the files that cannot be decoded as images; unchanged files are not tried again."""
    paths = [path for path, _ in (*files.train, *files.test)]

    def compute() -> str:
        with ThreadPoolExecutor(machine_cpus()) as pool:
            problems = list(pool.map(_decoding_problem, paths))
        bad = [path for path, problem in zip(paths, problems, strict=True) if problem]
        return json.dumps([path.relative_to(files.root).as_posix() for path in bad])

    names = json.loads(cached_for("unreadable", paths, roots, compute))
    return frozenset(files.root / name for name in names)


def read_images(files: FolderFiles, image_size: int, workspace: Path | None) -> ImageArrays:
    """Decode every file, scale its shorter side to `image_size` and keep the centre square.

    With a `workspace` the images are `.npy` files in it, so that they may be larger than memory.
    Raises `DataError` with the names of files that cannot be read.
    """
    splits = {}
    for split, members in (("train", files.train), ("test", files.test)):
        shape = (len(members), image_size, image_size, 3)
        images: Images = (
            np.empty(shape, np.uint8)
            if workspace is None
            else np.lib.format.open_memmap(workspace / f"{split}_images.npy", "w+", np.uint8, shape)
        )
        with ThreadPoolExecutor(machine_cpus()) as pool:
            tasks = [
                pool.submit(_decode_into, images, i, path) for i, (path, _) in enumerate(members)
            ]
            bad = [problem for task in tasks if (problem := task.result())]
        if bad:
            more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
            raise DataError(
                f"{files.name}: cannot read {'; '.join(bad[:3])}{more}; remove or replace what is "
                "damaged, or leave it out with --skip-unreadable"
            )
        splits[split] = (images, np.array([label for _, label in members], np.int64))
    return ImageArrays(*splits["train"], files.classes, *splits["test"])


def _official_splits(
    name: str, root: Path, folders: list[str], without: Collection[Path]
) -> FolderFiles:
    if unused := [folder for folder in folders if folder not in ("train", "test")]:
        raise DataError(
            f"{name}: {root} also holds {', '.join(unused)}; move its images into train "
            "(val_fraction sets the validation split aside) or the folder elsewhere"
        )
    classes = _classes(name, root / "train", _folders(root / "train"))
    in_test = tuple(_folders(root / "test"))
    if classes != in_test:
        raise DataError(
            f"{name}: train and test must have the same classes; "
            f"only in train: {', '.join(sorted(set(classes) - set(in_test))) or 'none'}; "
            f"only in test: {', '.join(sorted(set(in_test) - set(classes))) or 'none'}"
        )
    train, test = (_files(name, root / split, classes, without) for split in ("train", "test"))
    return FolderFiles(name, root, classes, tuple(train), tuple(test))


def _folders(root: Path) -> list[str]:
    return sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."
    )


def _classes(name: str, root: Path, folders: list[str]) -> tuple[str, ...]:
    if len(folders) < 2:
        raise DataError(
            f"{name}: {root} must hold a sub-folder per class, two or more; "
            f"found {', '.join(folders) or 'none'}"
        )
    return tuple(folders)


def _files(
    name: str, root: Path, classes: tuple[str, ...], without: Collection[Path]
) -> list[tuple[Path, int]]:
    files: list[tuple[Path, int]] = []
    for label, folder in enumerate(classes):
        paths = [
            Path(parent) / file
            for parent, _, inside in os.walk(root / folder)
            for file in inside
            if os.path.splitext(file)[1].lower() in SUFFIXES and file[0] != "."
        ]
        paths = [path for path in paths if path not in without]
        if not paths:
            raise DataError(
                f"{name}: no images in {root / folder} (looked for {', '.join(sorted(SUFFIXES))})"
            )
        files += [(path, label) for path in sorted(paths)]
    return files


def _decode_into(images: Images, index: int, path: Path) -> str | None:
    """Decode a file into `images[index]`; return the problem, None if there is none."""
    from PIL import Image, ImageOps

    side = images.shape[1]

    def fill(image: Image.Image) -> None:
        images[index] = np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR))

    return _decoding_problem(path, fill)


def _decoding_problem(path: Path, use: Callable[[Image.Image], None] | None = None) -> str | None:
    """Decode an image as RGB and pass it to `use`; return the problem, None if there is none."""
    from PIL import Image

    try:
        check_regular(path)
        with Image.open(path) as image:
            decoded = image.convert("RGB")
            if use:
                use(decoded)
    except Exception as error:  # Pillow raises many types for a damaged file
        return f"{path} ({error})"
    return None
