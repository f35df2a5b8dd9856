"""Pictures decoded into arrays: the one way from files and rows to images of a data set."""

from __future__ import annotations

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
        images: Images = (
            np.empty(shape, np.uint8)
            if workspace is None
            else np.lib.format.open_memmap(workspace / f"{split}_images.npy", "w+", np.uint8, shape)
        )
        _decode_into(images, [place for place, _ in members], pictures, framing, done)
        done += len(members)
        splits[split] = (images, np.array([label for _, label in members], np.int64))
    return ImageArrays(*splits["train"], pictures.classes, *splits["test"])


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
