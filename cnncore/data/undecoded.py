"""Pictures without a decoded copy: what the copy will take, and the data set without its pixels."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from cnncore.config import TrialConfig
from cnncore.config.images import Background, Resize
from cnncore.data.absent import MEAN, STD, black_images, published_data
from cnncore.data.cache import ImageData, cache_roots, open_copy
from cnncore.data.copies.earlier import EarlierPixels
from cnncore.data.dataset import Planned, load_planned, planned_key, planned_source
from cnncore.data.folders.decoding import decoded_bytes, keys_name, measure_rate
from cnncore.data.sources.open import Source


@dataclass(frozen=True)
class DecodingNeed:
    """What a decoded copy takes that is not there yet.

    `new` of its `pictures` have to be decoded, at `pictures_per_s` on this machine as measured on
    `measured` of them; the pixels of the others are on the disk already. `size` is in bytes.
    """

    pictures: int
    new: int
    side: int
    size: int
    pictures_per_s: float
    measured: int

    @property
    def time_s(self) -> float:
        """Seconds on a machine like this one with nothing else to do."""
        return self.new / self.pictures_per_s


def decoding_need(
    name: str,
    data_dir: str | PathLike[str],
    image_size: int | None,
    fingerprint: str | None,
    *,
    skip_unreadable: bool = False,
    resize: Resize | None = None,
    background: Background | None = None,
) -> DecodingNeed | None:
    """Return what the decoded copy of a data set takes; None if it is there, or not of pictures.

    A few pictures are decoded to measure how long it takes. `fingerprint` is the one that
    `check_dataset` returned. Raises `DataError` as that does.
    """
    folder = str(Path(data_dir).expanduser().absolute())
    planned = Planned(name, folder, image_size, skip_unreadable, fingerprint, resize, background)
    found = None if _is_decoded(planned) else _undecoded(planned)
    return found.need if found else None


def outline_planned(
    config: TrialConfig,
    data_dir: str | PathLike[str],
    *,
    skip_unreadable: bool = False,
    absent: Collection[str] = (),
    decodes_s: float = 0.0,
) -> ImageData:
    """Return the data of a planned config, without pixels if those are not decoded yet.

    Then classes and labels are true, and all images are black, with made-up `mean` and `std`.
    Pictures are decoded now if that takes less than `decodes_s`. Data sets of `absent` have their
    published numbers of images. Raises `DataError`.
    """
    if config.dataset in absent:
        return published_data(config)
    planned = Planned(
        config.dataset,
        str(Path(data_dir).expanduser().absolute()),
        config.image_size,
        skip_unreadable,
        config.data_fingerprint,
        config.resize,
        config.background,
    )
    if not _is_decoded(planned):
        found = _undecoded(planned)
        if found.need.time_s >= decodes_s:
            return found.outline
    return load_planned(config, data_dir, skip_unreadable=skip_unreadable)


@dataclass(frozen=True)
class _Undecoded:
    """What is known of pictures that are not decoded."""

    need: DecodingNeed
    outline: ImageData


def _is_decoded(planned: Planned) -> bool:
    """Tell if the copy of planned pictures is there, or if the data set is none of pictures."""
    key = planned_key(planned)
    roots = cache_roots(Path(planned.data_dir))
    return key is None or open_copy(planned.name, key, roots) is not None


@functools.lru_cache(maxsize=8)
def _undecoded(planned: Planned) -> _Undecoded:
    """Look at pictures that are not decoded. Raises `DataError` if they are not as planned."""
    source = planned_source(planned)
    return _Undecoded(_need(source, cache_roots(Path(planned.data_dir))), _outline(source))


def _need(source: Source, roots: list[Path]) -> DecodingNeed:
    pictures, framing = source.pictures, source.framing
    assert pictures is not None
    assert framing is not None
    keys = pictures.pixel_keys()
    earlier = EarlierPixels(roots, keys_name(framing), keys, framing.side)
    new = [index for index, found in enumerate(earlier.found) if not found]
    rate, measured = measure_rate(pictures, framing, new)
    size = decoded_bytes(pictures, framing.side)
    return DecodingNeed(len(keys), len(new), framing.side, size, rate, measured)


def _outline(source: Source) -> ImageData:
    """Return classes and labels with black images, which take no memory."""
    pictures, info = source.pictures, source.info
    assert pictures is not None
    train, test = pictures.labels()
    side = info.image_size
    return ImageData(
        name=source.name,
        class_names=pictures.classes,
        train_images=black_images(len(train), side),
        train_labels=train,
        test_images=black_images(len(test), side),
        test_labels=test,
        fingerprint=pictures.fingerprint,
        mean=MEAN,
        std=STD,
        skipped=info.skipped,
        validation=info.validation,
    )
