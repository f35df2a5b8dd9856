"""Fashion-MNIST: 70,000 grey 28x28 pictures of clothes (arXiv 1708.07747), in the IDX format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncore.data.arrays import ImageArrays
from cnncore.data.sources.published_files import PublishedFiles

CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# MD5 as in torchvision.datasets.FashionMNIST.
FILES = PublishedFiles(
    dataset="fashion_mnist",
    folder="FashionMNIST/raw",
    md5={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    origin="https://github.com/zalandoresearch/fashion-mnist",
)
# Type code of unsigned bytes in an IDX file.
UNSIGNED_BYTE = 8


def check_files(data_dir: Path) -> None:
    """Raise `DataMissing` unless every file exists."""
    FILES.check(data_dir)


def read_fashion_mnist(data_dir: Path) -> ImageArrays:
    """Read training and test images; download missing files first.

    Raises `DataError` if the download fails or a file is damaged.
    """
    FILES.fetch(data_dir, _download)
    train_images, train_labels, test_images, test_labels = (
        _read(data_dir, name) for name in FILES.md5
    )
    return ImageArrays(train_images, train_labels, CLASS_NAMES, test_images, test_labels)


def _download(folder: str) -> None:
    from torchvision.datasets import FashionMNIST

    FashionMNIST(folder, download=True)


def _read(data_dir: Path, name: str) -> npt.NDArray[Any]:
    try:
        return _from_idx(gzip.decompress((data_dir / FILES.folder / name).read_bytes()))
    except Exception as error:  # gzip, zlib and struct raise types of their own
        raise FILES.unreadable(data_dir, name, error) from error


def _from_idx(content: bytes) -> npt.NDArray[Any]:
    """Return the array of unsigned bytes in an IDX file.

    The file holds two zeros, the type, the number of dimensions, their sizes (big-endian) and the
    values.
    """
    zeros, kind, dimensions = struct.unpack_from(">HBB", content)
    if zeros or kind != UNSIGNED_BYTE:
        raise ValueError("not an IDX file of unsigned bytes")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
