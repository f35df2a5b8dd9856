"""CIFAR-100 in the layout of its authors: Krizhevsky, "Learning Multiple Layers of Features from
Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html.

Every image has a fine label; the superclass of that class is its coarse label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnncore.data.arrays import ImageArrays, Images, Labels
from cnncore.data.sources.published_files import PublishedFiles
from cnncore.data.sources.safe_pickle import load_safe_pickle

# Superclass: its five classes. Both are numbered in alphabetical order.
SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
CLASS_NAMES = tuple(sorted(name for names in SUPERCLASSES.values() for name in names))
# Label set: its names, and the label in it of each class of `CLASS_NAMES`.
_SUPERCLASS = {name: i for i, names in enumerate(SUPERCLASSES.values()) for name in names}
LABEL_SETS = {
    "fine": (CLASS_NAMES, np.arange(len(CLASS_NAMES))),
    "coarse": (tuple(SUPERCLASSES), np.array([_SUPERCLASS[name] for name in CLASS_NAMES])),
}
FILES = PublishedFiles(
    dataset="cifar100",
    folder="cifar-100-python",
    md5={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
    origin="cifar-100-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html)",
)


def check_files(data_dir: Path) -> None:
    """Raise `DataMissing` unless both files exist."""
    FILES.check(data_dir)


def read_cifar100(data_dir: Path) -> ImageArrays:
    """Read training and test images with their fine labels; download missing files first.

    Raises `DataError` if the download fails or a file has another layout.
    """
    FILES.fetch(data_dir, _download)
    train_images, train_labels = _read(data_dir, "train")
    test_images, test_labels = _read(data_dir, "test")
    return ImageArrays(train_images, train_labels, CLASS_NAMES, test_images, test_labels)


def _download(folder: str) -> None:
    from torchvision.datasets import CIFAR100

    CIFAR100(folder, download=True)


def _read(data_dir: Path, name: str) -> tuple[Images, Labels]:
    """Return images `(images, 32, 32, 3)` and fine labels."""
    try:
        batch = load_safe_pickle((data_dir / FILES.folder / name).read_bytes())
        planes = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        fine, coarse = (np.asarray(batch[key]) for key in (b"fine_labels", b"coarse_labels"))
        if not np.array_equal(LABEL_SETS["coarse"][1][fine], coarse):
            raise ValueError("its coarse labels are not the superclasses of its fine ones")
    except Exception as error:  # a damaged pickle raises many types
        raise FILES.unreadable(data_dir, name, error) from error
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), fine.astype(np.int64)
