"""SVHN: 99,289 colour 32x32 pictures of house numbers' digits, in MATLAB files.

Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011,
http://ufldl.stanford.edu/housenumbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnncore.data.arrays import ImageArrays, Images, Labels
from cnncore.data.sources.published_files import PublishedFiles

CLASS_NAMES = tuple(str(digit) for digit in range(10))
# MD5 as in torchvision.datasets.SVHN.
FILES = PublishedFiles(
    dataset="svhn",
    folder="",
    md5={
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    origin="http://ufldl.stanford.edu/housenumbers (format 2)",
)


def check_files(data_dir: Path) -> None:
    """Raise `DataMissing` unless both files exist."""
    FILES.check(data_dir)


def read_svhn(data_dir: Path) -> ImageArrays:
    """Read training and test images; download missing files first.

    Raises `DataError` if the download fails or a file is damaged.
    """
    FILES.fetch(data_dir, _download)
    train_images, train_labels = _read(data_dir, "train_32x32.mat")
    test_images, test_labels = _read(data_dir, "test_32x32.mat")
    return ImageArrays(train_images, train_labels, CLASS_NAMES, test_images, test_labels)


def _download(folder: str) -> None:
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        SVHN(folder, split, download=True)


def _read(data_dir: Path, name: str) -> tuple[Images, Labels]:
    """Return images `(images, 32, 32, 3)` and labels; the files label the digit 0 as 10."""
    from scipy.io import loadmat

    try:
        content = loadmat(data_dir / FILES.folder / name, variable_names=["X", "y"])
        images = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2))
        return images, content["y"].ravel().astype(np.int64) % 10
    except Exception as error:  # scipy raises many types for a damaged file
        raise FILES.unreadable(data_dir, name, error) from error
