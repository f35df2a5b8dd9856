"""A data set as plain arrays, returned by a reader or a user's function, and their check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncore.data.errors import DataError
from cnncore.data.stratify import stratified_split

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

# Share of a data set without a test split that becomes one, and the seed that keeps it the same.
TEST_FRACTION = 0.2
TEST_SPLIT_SEED = 0


@dataclass(frozen=True)
class ImageArrays:
    """Square images, labels from 0, and the names of the classes in the order of the labels.

    Images are uint8, `(images, side, side, 3)`, or grey `(images, side, side[, 1])`. Without test
    arrays a fixed, stratified fifth of the images becomes the test split. A user's function may
    return other dtypes and layouts (`pixel_layout.py`), which become these.
    """

    train_images: Any
    train_labels: Any
    class_names: Any
    test_images: Any = None
    test_labels: Any = None


@dataclass(frozen=True)
class CheckedArrays:
    """Arrays that passed `checked`: RGB uint8 images and int64 labels of both splits."""

    train_images: Images
    train_labels: Labels
    class_names: tuple[str, ...]
    test_images: Images
    test_labels: Labels


def checked(name: str, value: Any) -> CheckedArrays:
    """Return the arrays of data set `name` from `ImageArrays` or a mapping with its keys.

    Raises one `DataError` with all problems if they are not as `ImageArrays` describes.
    """
    arrays = _as_arrays(name, value)
    problems: list[str] = []
    classes = _class_names(arrays.class_names, problems)
    train = _pair("train", arrays.train_images, arrays.train_labels, len(classes), problems)
    absent = arrays.test_images is None and arrays.test_labels is None
    test = (
        train
        if absent
        else _pair("test", arrays.test_images, arrays.test_labels, len(classes), problems)
    )
    if not problems and train[0].shape[1:] != test[0].shape[1:]:
        problems.append(
            f"train images are {train[0].shape[1]} pixels wide, test images {test[0].shape[1]}"
        )
    if problems:
        raise DataError(f"data set {name}: " + "; ".join(problems))
    if not absent:
        return CheckedArrays(*train, classes, *test)
    images, labels = train
    kept, held_out = stratified_split(labels, TEST_FRACTION, TEST_SPLIT_SEED)
    return CheckedArrays(images[kept], labels[kept], classes, images[held_out], labels[held_out])


def _as_arrays(name: str, value: Any) -> ImageArrays:
    if isinstance(value, ImageArrays):
        return value
    known = [field.name for field in fields(ImageArrays)]
    if not isinstance(value, Mapping):
        raise DataError(
            f"data set {name}: expected cnncore.data.ImageArrays or a dict with the keys "
            f"{', '.join(known)}, got {type(value).__name__}"
        )
    missing = [key for key in known[:3] if key not in value]
    unknown = [str(key) for key in value if key not in known]
    if missing or unknown:
        raise DataError(
            f"data set {name}: keys must be {', '.join(known)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
        )
    return ImageArrays(**value)


def _class_names(value: Any, problems: list[str]) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple, np.ndarray)) or not all(
        isinstance(name, str) for name in value
    ):
        problems.append("class_names must be a sequence of names")
        return ()
    if len(value) < 2 or len(set(value)) != len(value):
        problems.append(f"class_names must be two or more different names, got {list(value)}")
    return tuple(value)


def _pair(
    split: str, images: Any, labels: Any, classes: int, problems: list[str]
) -> tuple[Images, Labels]:
    """Return images as RGB and labels as int64; append every problem to `problems`."""
    images, labels = np.asarray(images), np.asarray(labels)
    before = len(problems)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        problems.append(
            f"{split}_images must be uint8 of shape (images, side, side, 3), "
            f"got {images.dtype} of shape {images.shape}"
        )
    elif images.shape[1] != images.shape[2]:
        problems.append(f"{split}_images must be square, got {images.shape[1]}x{images.shape[2]}")
    elif images.ndim == 4 and images.shape[3] not in (1, 3):
        problems.append(f"{split}_images must have 1 or 3 channels, got {images.shape[3]}")
    if labels.size == 0:
        problems.append(f"there are no {split} images")
    elif labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        problems.append(
            f"{split}_labels must be integers of shape (images,), "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    elif len(labels) != len(images):
        problems.append(f"{len(images)} {split}_images but {len(labels)} {split}_labels")
    elif classes and (labels.min() < 0 or labels.max() >= classes):
        problems.append(
            f"{split}_labels must be 0 to {classes - 1}, one per class name, "
            f"got {labels.min()} to {labels.max()}"
        )
    elif split == "train" and len(np.unique(labels)) < 2:
        problems.append("the train images are all of one class")
    if len(problems) > before:
        return np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.int64)
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    return images, labels.astype(np.int64)
