"""Map-style data sets, as `torch.utils.data.Dataset`: their items as arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cnncore.data.arrays import ImageArrays
from cnncore.data.errors import DataError
from cnncore.data.folders.pictures import flatten
from cnncore.data.pixel_layout import as_array

Collected = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]


def is_dataset(value: Any) -> bool:
    """Tell a map-style data set from arrays and containers."""
    plain = isinstance(value, (str, bytes, list, tuple, Mapping, np.ndarray, ImageArrays))
    return not plain and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def find_datasets(value: Any) -> dict[str, Any] | None:
    """Return the data sets in a function's answer, by split; None if it is something else.

    An answer is one data set, `(train, test)`, or a dict with `train` and perhaps `test`.
    """
    if is_dataset(value) and not hasattr(value, "dtype"):
        return {"train": value}
    if isinstance(value, tuple) and len(value) == 2:
        value = {"train": value[0], "test": value[1]}
    if not isinstance(value, Mapping) or not is_dataset(value.get("train")):
        return None
    return {str(split): dataset for split, dataset in value.items()}


def arrays_of(name: str, datasets: Mapping[str, Any]) -> ImageArrays:
    """Return every item of the data sets as arrays. Raises `DataError` if an item does not fit."""
    if unknown := [split for split in datasets if split not in ("train", "test", "class_names")]:
        raise DataError(
            f"data set {name}: beside train stand test and class_names, got {', '.join(unknown)}"
        )
    train = collect(name, "train", datasets["train"])
    test = collect(name, "test", datasets["test"]) if "test" in datasets else (None, None)
    given = datasets.get("class_names") or _classes(datasets["train"])
    highest = max(int(labels.max()) for labels in (train[1], test[1]) if labels is not None)
    names = list(map(str, given)) if given else [str(label) for label in range(highest + 1)]
    return ImageArrays(*train, names, *test)


def collect(
    name: str, split: str, dataset: Any, tell: Callable[[int, int], None] | None = None
) -> Collected:
    """Return the images and labels of all items, in order. `tell` gets how many are done."""
    count = len(dataset)
    if not count:
        raise DataError(f"data set {name}: {split} has no items")
    images: npt.NDArray[Any] | None = None
    labels = np.empty(count, np.int64)
    for index in range(count):
        where = f"data set {name}: item {index} of {split}"
        item = dataset[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise DataError(f"{where} must be (image, label), got {type(item).__name__}")
        image = _pixels(where, item[0])
        labels[index] = _label(where, item[1])
        if images is None:
            images = np.empty((count, *image.shape), image.dtype)
        if image.shape != images.shape[1:] or image.dtype != images.dtype:
            raise DataError(
                f"{where} is {image.dtype} of shape {image.shape}, and item 0 {images.dtype} of "
                f"shape {images.shape[1:]}; bring all to one size in the data set, or list their "
                "files for csv:FILE, which cuts them to image_size"
            )
        images[index] = image
        if tell:
            tell(index + 1, count)
    assert images is not None
    return images, labels


def _pixels(where: str, image: Any) -> npt.NDArray[Any]:
    """Return the pixels of a Pillow image, an array or a tensor."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return np.asarray(flatten(image))
    pixels = as_array(where, "image", image)
    if pixels.ndim not in (2, 3):
        raise DataError(
            f"{where}: its image must be a Pillow image, an array or a tensor, got "
            f"{type(image).__name__} of shape {pixels.shape}"
        )
    return pixels


def _label(where: str, label: Any) -> int:
    try:
        return operator.index(label.item() if hasattr(label, "item") else label)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{where}: its label must be a whole number from 0, got {type(label).__name__}"
        ) from None


def _classes(dataset: Any) -> Any:
    """Return the names of the classes that a data set, or the one inside a `Subset`, has."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return getattr(dataset, "classes", None)
