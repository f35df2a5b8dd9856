"""Pictures decoded into arrays: the one way from files and rows to images of a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnncore.data.arrays import ImageArrays, Images
from cnncore.data.folders.description import shown
from cnncore.data.folders.picture_list import PictureList, unreadable
from cnncore.data.folders.pictures import read_rgb
from cnncore.data.folders.places import Place, contents, full_name, on_threads
from cnncore.data.framing import Framing
from cnncore.data.progress import tell_progress


def read_images(pictures: PictureList, framing: Framing, workspace: Path | None) -> ImageArrays:
    """Decode every picture into a square image, in the order of the list.

    With a `workspace` the images are `.npy` files in it, so that they may be larger than memory.
    Raises `DataError` with the names of pictures that cannot be read.
    """
    splits, done = {}, 0
    for split, members in (("train", pictures.train), ("test", pictures.test)):
        shape = (len(members), framing.side, framing.side, 3)
        images = _empty(shape, workspace / f"{split}_images.npy" if workspace else None)
        _decode_into(images, [place for place, _ in members], pictures, framing, done)
        done += len(members)
        splits[split] = (images, np.array([label for _, label in members], np.int64))
    return ImageArrays(*splits["train"], pictures.classes, *splits["test"])


def decoded_bytes(pictures: PictureList, side: int) -> int:
    """Return the size of all images once they are decoded."""
    return (len(pictures.train) + len(pictures.test)) * side * side * 3


def _empty(shape: tuple[int, int, int, int], path: Path | None) -> Images:
    """Return an array for images, in a file if there is a `path`. Raises `OSError` for a full disk.

    Its room is taken at once: a disk that is full later would end the process by a signal.
    """
    if path is None:
        return np.empty(shape, np.uint8)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate") and (size := path.stat().st_size):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    return images


def _decode_into(
    images: Images, places: Sequence[Place], pictures: PictureList, framing: Framing, done: int
) -> None:
    """Decode `places` into `images`, in order; `done` pictures of the list were decoded before."""

    def decode(numbered: tuple[int, Path | bytes]) -> str | None:
        index, content = numbered
        try:
            picture = read_rgb(
                content, pictures.ranges, background=framing.colour, listed=pictures.listed
            )
            images[index] = np.asarray(framing.square(picture))
        except Exception as error:  # Pillow raises many types for a damaged file
            return f"{shown(full_name(places[index]))} ({error})"
        return None

    total = len(pictures.train) + len(pictures.test)
    bad = []
    for number, problem in enumerate(on_threads(decode, enumerate(contents(places))), done + 1):
        if problem:
            bad.append(problem)
        tell_progress(f"decoding {pictures.name}", number, total)
    if bad:
        raise unreadable(pictures.name, bad)
