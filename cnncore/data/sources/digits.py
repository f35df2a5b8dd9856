"""Handwritten digits: 1,797 real 8x8 images that ship with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnncore.data.arrays import ImageArrays

CLASS_NAMES = tuple(str(digit) for digit in range(10))


def check_files(data_dir: Path) -> None:
    """Do nothing: the images are part of an installed dependency."""


def read_digits(data_dir: Path) -> ImageArrays:
    """Read the images, grey values 0 to 16 scaled to 0 to 255; the set has no test split."""
    from sklearn.datasets import load_digits  # takes a second, needed once per machine

    digits = load_digits()
    return ImageArrays(
        train_images=np.round(digits.images * (255 / 16)).astype(np.uint8),
        train_labels=digits.target,
        class_names=CLASS_NAMES,
    )
