"""CIFAR-10 in the layout of its authors: Krizhevsky, "Learning Multiple Layers of Features from
Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from cnncore.data.arrays import ImageArrays, Images, Labels
from cnncore.data.errors import DataError, DataMissing
from cnncore.data.sources.published_files import fetch
from cnncore.data.sources.safe_pickle import load_safe_pickle

FOLDER = "cifar-10-batches-py"
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# Name: (bytes, MD5 as in torchvision.datasets.CIFAR10).
TRAIN_FILES = {
    "data_batch_1": (31_035_704, "c99cafc152244af753f735de768cd75f"),
    "data_batch_2": (31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    "data_batch_3": (31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    "data_batch_4": (31_035_696, "634d18415352ddfa80567beed471001a"),
    "data_batch_5": (31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
}
TEST_FILES = {"test_batch": (31_035_526, "40351d587109b95175f43aff81a1287e")}


def check_files(data_dir: Path) -> None:
    """Raise `DataMissing` unless every file exists with its published size."""
    folder = data_dir / FOLDER
    wrong = [
        name
        for name, (size, _) in (TRAIN_FILES | TEST_FILES).items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
    if wrong:
        raise DataMissing(
            f"data set cifar10: missing or incomplete in {folder}: {', '.join(wrong)}. "
            "Unpack cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) "
            f"in {data_dir}, or name the folder that holds {FOLDER} with --data"
        )


def read_cifar10(data_dir: Path) -> ImageArrays:
    """Read 50,000 training and 10,000 test images; download missing files first.

    Raises `DataError` if the download fails or a file is damaged.
    """
    try:
        check_files(data_dir)
    except DataMissing as missing:
        fetch(data_dir, missing, _download)
        check_files(data_dir)
    train = [_read_batch(data_dir / FOLDER / name, md5) for name, (_, md5) in TRAIN_FILES.items()]
    test = [_read_batch(data_dir / FOLDER / name, md5) for name, (_, md5) in TEST_FILES.items()]
    return ImageArrays(
        train_images=np.concatenate([images for images, _ in train]),
        train_labels=np.concatenate([labels for _, labels in train]),
        class_names=CLASS_NAMES,
        test_images=test[0][0],
        test_labels=test[0][1],
    )


def _download(folder: str) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(folder, download=True)


def _read_batch(path: Path, md5: str) -> tuple[Images, Labels]:
    """Return images `(10000, 32, 32, 3)` and labels."""
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(
            f"data set cifar10: {path} is damaged (MD5 differs); delete it and run again"
        )
    batch = load_safe_pickle(content)
    planes = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.asarray(
        batch[b"labels"], np.int64
    )
