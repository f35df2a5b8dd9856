"""Images of an unfinished copy: files of their full size, and which images are in them.

A file `done` has a byte for each image, 1 once the image is safe on the disk. It is written after
the images, so a process that continues after a kill, a full disk or a lost machine believes no
image that is not there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncore.data.arrays import Images

SPLITS = ("train", "test")
DONE = "done"
# Images are made safe this often. What was decoded since then is decoded again after a kill.
SAVE_EVERY_S = 1.0
SYNC = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter

# A picture and how it is decoded: uint8 `(pictures, 16)`.
Keys = npt.NDArray[np.uint8]


class ImageFiles:
    """Square RGB images of both splits, numbered from 0 through training and test images.

    They lie in `folder`, with the `keys` of their pictures in the file `keys_name`; without a
    folder they lie in memory. Images that an earlier process stored for the same keys stay. Raises
    `OSError` if the disk has no room for all images, which is taken at once.
    """

    def __init__(
        self, folder: Path | None, keys_name: str, keys: Keys, counts: Sequence[int], side: int
    ) -> None:
        """Open the files, or make them; `counts` are the images of each split."""
        self._shapes = [(count, side, side, 3) for count in counts]
        self._first_test = counts[0]
        self._folder = folder
        self._unsaved: list[int] = []
        self._saved_at = time.monotonic()
        self._files: list[int] = []
        self._offsets: list[int] = []
        self._images: list[Images] = []
        if folder is None:
            self.done = np.zeros(len(keys), np.bool_)
            self._images = [np.empty(shape, np.uint8) for shape in self._shapes]
            return
        if (done := self._stored(folder, keys_name, keys)) is None:
            done = self._start(folder, keys_name, keys)
        self.done = done
        for split in SPLITS:
            path = folder / f"{split}_images.npy"
            self._offsets.append(np.load(path, mmap_mode="r").offset)
            self._files.append(os.open(path, os.O_RDWR))

    def put(self, index: int, image: Images) -> None:
        """Store an image; several threads may store different ones. Raises `OSError`."""
        split, row = (0, index) if index < self._first_test else (1, index - self._first_test)
        if self._images:
            self._images[split][row] = image
            return
        content = image.tobytes()
        at = self._offsets[split] + row * len(content)
        while content:  # a disk that becomes full takes a part
            written = os.pwrite(self._files[split], content, at)
            content, at = content[written:], at + written

    def mark(self, index: int) -> None:
        """Note that an image was stored, which is made safe within `SAVE_EVERY_S`."""
        self._unsaved.append(index)
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Make the stored images safe, and then note them as done."""
        if self._folder is not None and self._unsaved:
            for file in self._files:
                SYNC(file)
            self.done[self._unsaved] = True
            first, last = min(self._unsaved), max(self._unsaved) + 1
            with (self._folder / DONE).open("r+b") as marks:
                marks.seek(first)
                marks.write(self.done[first:last].tobytes())
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def close(self) -> None:
        """Save, and close the files."""
        try:
            self.save()
        finally:
            while self._files:
                os.close(self._files.pop())

    def images(self) -> tuple[Images, Images]:
        """Return training and test images, memory-mapped if they lie in a folder."""
        if self._folder is None:
            return self._images[0], self._images[1]
        train, test = (np.load(self._folder / f"{name}_images.npy", "r") for name in SPLITS)
        return train, test

    def _stored(self, folder: Path, keys_name: str, keys: Keys) -> npt.NDArray[np.bool_] | None:
        """Return which images an earlier process stored for these keys; None if not for these."""
        try:
            done = stored_images(folder)
            shapes = [np.load(folder / f"{split}_images.npy", "r").shape for split in SPLITS]
            same = np.array_equal(np.load(folder / keys_name), keys)
        except (OSError, ValueError):  # missing, truncated, not ours
            return None
        return done if same and len(done) == len(keys) and shapes == self._shapes else None

    def _start(self, folder: Path, keys_name: str, keys: Keys) -> npt.NDArray[np.bool_]:
        (folder / DONE).unlink(missing_ok=True)
        for split, shape in zip(SPLITS, self._shapes, strict=True):
            _reserve(folder / f"{split}_images.npy", shape)
        np.save(folder / keys_name, keys)
        done = np.zeros(len(keys), np.bool_)
        (folder / DONE).write_bytes(done.tobytes())
        return done


def stored_images(folder: Path) -> npt.NDArray[np.bool_]:
    """Tell for each image of an unfinished copy if it is safe. Raises `OSError` if none can be."""
    done: npt.NDArray[np.bool_] = np.frombuffer((folder / DONE).read_bytes(), np.uint8) == 1
    return done


def has_progress(folder: Path) -> bool:
    """Tell if an unfinished copy has an image that need not be decoded again."""
    return progress_of(folder)[0] > 0


def progress_of(folder: Path) -> tuple[int, int]:
    """Count the images of an unfinished copy that are safe, and all; zeros if it has no count."""
    try:
        stored = stored_images(folder)
    except OSError:
        return 0, 0
    return int(stored.sum()), len(stored)


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Make a file for an array. Raises `OSError` for a full disk."""
    mapped: Any = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    del mapped
    if hasattr(os, "posix_fallocate") and (size := path.stat().st_size):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
