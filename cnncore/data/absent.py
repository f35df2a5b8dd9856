"""Data sets that are not on this machine, for a plan: their published numbers, without images.

The arrays of images are black and take no memory; a trial never gets them.
"""

from __future__ import annotations

import numpy as np

from cnncore.catalog import DATASETS
from cnncore.config import TrialConfig
from cnncore.data.arrays import Images
from cnncore.data.cache import ImageData
from cnncore.data.sources.open import DatasetInfo, label_set

# A colour in the middle: each channel has a spread, as real images have.
MEAN = STD = (0.5, 0.5, 0.5)


def black_images(count: int, side: int) -> Images:
    """Return `count` black images `(count, side, side, 3)` that share the memory of one byte."""
    images: Images = np.broadcast_to(np.zeros(1, np.uint8), (count, side, side, 3))
    return images


def published_data(config: TrialConfig) -> ImageData:
    """Return the data of a catalog's data set that is not here, by its published numbers.

    Each class has as many images as the others, give or take one.
    """
    source = DATASETS[config.dataset]
    names: tuple[str, ...] = tuple(f"class {n}" for n in range(source.classes))
    if config.labels is not None:
        names, _ = label_set(config.dataset, config.labels)
    train, test = (np.arange(count, dtype=np.int64) % len(names) for count in source.images)
    side = (config.image_size if source.folder else None) or source.image_size
    return ImageData(
        name=config.dataset,
        class_names=names,
        train_images=black_images(len(train), side),
        train_labels=train,
        test_images=black_images(len(test), side),
        test_labels=test,
        fingerprint="",
        mean=MEAN,
        std=STD,
    )


def published_info(name: str, image_size: int | None = None) -> DatasetInfo:
    """Return the facts about a catalog's data set that is not here.

    Its fingerprint is None, as that of the published files, which a folder of pictures never has.
    """
    source = DATASETS[name]
    side = (image_size if source.folder else None) or source.image_size
    return DatasetInfo(name, None, source.classes, side, None)
