"""Pictures decoded into arrays: the one way from files and rows to images of a data set.

Threads decode: Pillow lets go of Python's lock while it decodes and resizes, which is all but a
small share of the work (docs/benchmarks.md). A JPEG is decoded at its full size: a decoder that
scales while it decodes (`Image.draft`) is faster, but gives other pixels.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from cnncore.data.arrays import ImageArrays, Images
from cnncore.data.copies.earlier import EarlierPixels
from cnncore.data.copies.image_files import ImageFiles
from cnncore.data.errors import DataError
from cnncore.data.folders.description import and_more, shown
from cnncore.data.folders.picture_list import PictureList, unreadable
from cnncore.data.folders.pictures import read_bytes, read_rgb, told_by_suffix
from cnncore.data.folders.places import Place, Row, contents, full_name, on_threads
from cnncore.data.framing import Framing
from cnncore.data.progress import tell_progress
from cnncore.processors import machine_cpus

# Time, and pictures at most, that tell how long a data set takes to decode.
MEASURE_S = 0.3
MOST_MEASURED = 256
BATCH_PER_CORE = 2


def read_images(
    pictures: PictureList, framing: Framing, workspace: Path | None, roots: Iterable[Path] = ()
) -> ImageArrays:
    """Decode every picture into a square image, in the order of the list.

    With a `workspace` the images are `.npy` files in it, so that they may be larger than memory,
    and a later call continues there. Pixels that copies below `roots` have are taken from them.
    Raises `DataError` with the names of pictures that cannot be read or that have changed.
    """
    roots = list(roots)
    size = decoded_bytes(pictures, framing.side)
    if workspace is None and size > memory_bytes() / 2:
        raise DataError(
            f"{pictures.name}: no disk has room for its decoded copy ({size:,} bytes); free as "
            f"much on the disk of {' or '.join(map(str, roots))}, or name a folder on another one "
            "by the environment variable XDG_CACHE_HOME"
        )
    keys, name = pictures.pixel_keys(), keys_name(framing)
    counts = (len(pictures.train), len(pictures.test))
    earlier = EarlierPixels(roots, name, keys, framing.side, but=workspace)
    with closing(ImageFiles(workspace, name, keys, counts, framing.side)) as images:
        _fill(images, _Decoder(pictures, framing, pictures.places), earlier)
    train, test = images.images()
    train_labels, test_labels = pictures.labels()
    return ImageArrays(train, train_labels, pictures.classes, test, test_labels)


def keys_name(framing: Framing) -> str:
    """Return the name of the file of keys of copies whose pixels were made in this way."""
    import PIL
    from PIL import features

    libraries = features.version_codec("jpg"), features.version_feature("libjpeg_turbo")
    content = f"{PIL.__version__} {libraries} {framing.key}"
    return f"keys-{hashlib.sha256(content.encode()).hexdigest()[:16]}.npy"


def memory_bytes() -> int:
    """Return the size of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def decoded_bytes(pictures: PictureList, side: int) -> int:
    """Return the size of all images once they are decoded."""
    return (len(pictures.train) + len(pictures.test)) * side * side * 3


def measure_rate(
    pictures: PictureList, framing: Framing, wanted: Sequence[int]
) -> tuple[float, int]:
    """Decode a few of these pictures; return how many a second all cores decode, and how many.

    It takes about `MEASURE_S`, or as long as a few pictures per core. The first pictures warm up.
    """
    decoder = _Decoder(pictures, framing, pictures.places)
    if not wanted:
        return math.inf, 0
    sample = _sample(decoder.places, wanted)

    def decode(numbered: tuple[int, Path | bytes]) -> None:
        with suppress(Exception):  # a damaged picture is named when all are decoded
            decoder.decode(*numbered)

    def timed(batch: list[tuple[int, Path | bytes]]) -> float:
        started = time.perf_counter()
        deque(on_threads(decode, batch), maxlen=0)
        return time.perf_counter() - started

    given = zip(sample, decoder.contents(sample), strict=True)
    together = BATCH_PER_CORE * machine_cpus()
    first = list(islice(given, together))
    decoded, time_s = len(first), timed(first)
    if time_s < MEASURE_S and len(sample) > len(first):  # they were the warm-up
        decoded, time_s = 0, 0.0
        while time_s < MEASURE_S and (batch := list(islice(given, together))):
            decoded, time_s = decoded + len(batch), time_s + timed(batch)
    return decoded / time_s, decoded


def _sample(places: Sequence[Place], wanted: Sequence[int]) -> list[int]:
    """Return some of the wanted pictures: files from everywhere, rows that stand together."""
    if isinstance(places[wanted[0]], Row):
        return list(wanted[:MOST_MEASURED])
    count = min(MOST_MEASURED, len(wanted))
    return [wanted[i] for i in np.random.default_rng(0).permutation(len(wanted))[:count]]


@dataclass(frozen=True)
class _Decoder:
    """The way from a picture's content to its image."""

    pictures: PictureList
    framing: Framing
    places: list[Place]

    def decode(self, index: int, content: Path | bytes) -> Images:
        """Return the image. Raises `_Changed` if the content is not what was listed.

        Raises Pillow's errors for a damaged picture.
        """
        place = self.places[index]
        data = read_bytes(content)
        if hashlib.sha256(data).hexdigest() != self.pictures.facts[place].sha256:
            raise _Changed
        picture = read_rgb(
            data,
            self.pictures.ranges,
            background=self.framing.colour,
            any_format=self.pictures.listed or told_by_suffix(content),
        )
        return np.asarray(self.framing.square(picture))

    def contents(self, wanted: list[int]) -> Iterator[Path | bytes]:
        """Yield the content of these pictures, which ascend; each split is read by itself."""
        first_test = len(self.pictures.train)
        splits = ([i for i in wanted if i < first_test], [i for i in wanted if i >= first_test])
        return chain.from_iterable(contents(self.places[i] for i in own) for own in splits)


class _Changed(Exception):
    """A picture whose content is not what it was when it was listed."""


def _fill(images: ImageFiles, decoder: _Decoder, earlier: EarlierPixels) -> None:
    """Decode every picture that is not done, or take its pixels from an earlier copy."""
    name, places = decoder.pictures.name, decoder.places
    missing = np.flatnonzero(~images.done).tolist()
    known = earlier.found
    bad: dict[int, str] = {}
    changed: list[int] = []
    stored: deque[int] = deque()

    def decode(numbered: tuple[int, Path | bytes]) -> None:
        index, content = numbered
        try:
            pixels = decoder.decode(index, content)
        except _Changed:
            changed.append(index)
            return
        except Exception as error:  # Pillow raises many types for a damaged file
            bad[index] = str(error)
            return
        images.put(index, pixels)
        stored.append(index)

    def mark_stored() -> None:
        while stored:
            images.mark(stored.popleft())

    copied = [i for i in missing if known[i]]
    for number, index in enumerate(copied, 1):
        images.put(index, earlier.image(index))
        images.mark(index)
        tell_progress(f"copying {name}, decoded before", number, len(copied), "pictures")
    fresh = [i for i in missing if not known[i]]
    done = len(places) - len(fresh)
    numbered = zip(fresh, decoder.contents(fresh), strict=True)
    try:
        for number, _ in enumerate(on_threads(decode, numbered), done + 1):
            mark_stored()
            tell_progress(f"decoding {name}", number, len(places), "pictures")
    finally:
        mark_stored()  # what other threads stored before one failed, as on a full disk
    if changed:
        names = [shown(full_name(places[index])) for index in sorted(changed)]
        raise DataError(
            f"{name}: changed since the pictures were listed: {and_more(names)}; run again when "
            "nothing changes them any more"
        )
    if bad:
        raise unreadable(
            name, [f"{shown(full_name(places[index]))} ({bad[index]})" for index in sorted(bad)]
        )
