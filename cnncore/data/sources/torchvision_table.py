"""torchvision's classification data sets with their official splits, in one literal.

Names, folders and splits are those of `torchvision.datasets` 0.29; reading this imports nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cnncore.data.errors import DataError
from cnncore.spelling import closest_hint

PREFIX = "torchvision:"

Arguments = dict[str, Any]
TRAIN_OR_NOT: dict[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}
TWO: dict[str, Arguments] = {"train": {"split": "train"}, "test": {"split": "test"}}
THREE: dict[str, Arguments] = {**TWO, "val": {"split": "val"}}
# The test images' labels are not published, and papers report the accuracy on these.
VAL_AS_TEST: dict[str, Arguments] = {"train": {"split": "train"}, "test": {"split": "val"}}
VAL_IS_TEST = (
    "its official val is the test split (the labels of its own test images are not public); "
    "validation images come from train"
)
ONE: dict[str, Arguments] = {"train": {}}


@dataclass(frozen=True)
class OfficialSet:
    """One data set: its class, where its files lie, its splits, where its pictures are listed.

    `files` are names below the data folder, of which the first must be there. `splits` are the
    arguments of the class for each split. `pictures` and `labels` name the attributes that list
    files and labels, `pictures` alone one of pairs; without them every item is asked for its image.
    `root` is the folder below the data folder that the class is given.
    """

    class_name: str
    files: tuple[str, ...]
    splits: dict[str, Arguments]
    pictures: str = ""
    labels: str = ""
    root: str = ""
    downloads: bool = True
    more: Arguments = field(default_factory=dict)
    note: str = ""


def _small(name: str) -> OfficialSet:
    return OfficialSet(name, (f"{name}/raw",), TRAIN_OR_NOT)


def _emnist(split: str) -> OfficialSet:
    return OfficialSet(
        "EMNIST",
        ("EMNIST/raw",),
        TRAIN_OR_NOT,
        more={"split": split},
        note="its images are mirrored along their diagonal, as torchvision gives them",
    )


def _imagenette(size: str, folder: str) -> OfficialSet:
    return OfficialSet("Imagenette", (folder,), VAL_AS_TEST, "_samples", more={"size": size})


def _places(size: str, small: bool) -> OfficialSet:
    return OfficialSet(
        "Places365",
        ("places365",),
        {"train": {"split": "train-standard"}, "test": {"split": "val"}},
        "imgs",
        root="places365",
        more={"small": small},
        note=f"its {size} pictures; {VAL_IS_TEST}",
    )


def _species(train: str) -> OfficialSet:
    return OfficialSet(
        "INaturalist",
        ("inaturalist",),
        {"train": {"version": train}, "test": {"version": "2021_valid"}},
        "inaturalist",
        root="inaturalist",
        note=f"of 2021, the species are the classes; {VAL_IS_TEST}",
    )


# Few lines each, so that the whole table can be seen.
# fmt: off
SETS: dict[str, OfficialSet] = {
    "MNIST": _small("MNIST"),
    "FashionMNIST": _small("FashionMNIST"),
    "KMNIST": _small("KMNIST"),
    "QMNIST": _small("QMNIST"),
    "EMNIST-byclass": _emnist("byclass"),
    "EMNIST-bymerge": _emnist("bymerge"),
    "EMNIST-balanced": _emnist("balanced"),
    "EMNIST-letters": _emnist("letters"),
    "EMNIST-digits": _emnist("digits"),
    "EMNIST-mnist": _emnist("mnist"),
    "USPS": OfficialSet("USPS", ("usps.bz2", "usps.t.bz2"), TRAIN_OR_NOT),
    "SEMEION": OfficialSet("SEMEION", ("semeion.data",), ONE),
    "CIFAR10": OfficialSet("CIFAR10", ("cifar-10-batches-py",), TRAIN_OR_NOT),
    "CIFAR100": OfficialSet("CIFAR100", ("cifar-100-python",), TRAIN_OR_NOT),
    "SVHN": OfficialSet("SVHN", ("train_32x32.mat", "test_32x32.mat"), TWO),
    "STL10": OfficialSet(
        "STL10", ("stl10_binary",), TWO, note="its unlabelled images are not used"),
    "PCAM": OfficialSet("PCAM", ("pcam",), THREE),
    "FER2013": OfficialSet("FER2013", ("fer2013",), TWO, downloads=False),
    "Flowers102": OfficialSet("Flowers102", ("flowers-102",), THREE, "_image_files", "_labels"),
    "Food101": OfficialSet("Food101", ("food-101",), TWO, "_image_files", "_labels"),
    "OxfordIIITPet": OfficialSet(
        "OxfordIIITPet", ("oxford-iiit-pet",),
        {"train": {"split": "trainval"}, "test": {"split": "test"}}, "_images", "_labels"),
    "GTSRB": OfficialSet("GTSRB", ("gtsrb",), TWO, "_samples"),
    "EuroSAT": OfficialSet("EuroSAT", ("eurosat",), ONE, "samples"),
    "DTD": OfficialSet("DTD", ("dtd",), THREE, "_image_files", "_labels", note="its partition 1"),
    "FGVCAircraft": OfficialSet(
        "FGVCAircraft", ("fgvc-aircraft-2013b",), THREE, "_image_files", "_labels",
        note="labels are the variants"),
    "StanfordCars": OfficialSet(
        "StanfordCars", ("stanford_cars",), TWO, "_samples", downloads=False),
    "Caltech101": OfficialSet("Caltech101", ("caltech101",), ONE, "caltech101", "y"),
    "Caltech256": OfficialSet("Caltech256", ("caltech256",), ONE, "caltech256", "y"),
    "Country211": OfficialSet(
        "Country211", ("country211",), {**TWO, "val": {"split": "valid"}}, "samples"),
    "RenderedSST2": OfficialSet("RenderedSST2", ("rendered-sst2",), THREE, "_samples"),
    "SUN397": OfficialSet("SUN397", ("SUN397",), ONE, "_image_files", "_labels"),
    "ImageNet": OfficialSet(
        "ImageNet", ("imagenet",), VAL_AS_TEST, "samples", root="imagenet", downloads=False),
    "Places365": _places("large", small=False),
    "Places365-256px": _places("256 pixel", small=True),
    "INaturalist": _species("2021_train"),
    "INaturalist-mini": _species("2021_train_mini"),
    "Imagenette": _imagenette("full", "imagenette2"),
    "Imagenette-320px": _imagenette("320px", "imagenette2-320"),
    "Imagenette-160px": _imagenette("160px", "imagenette2-160"),
}
# fmt: on
# Data sets of pictures with labels that are no classes as they are meant here.
UNFIT = {
    "CelebA": "40 attributes of each picture, not one class, and nobody is in two of its splits; "
    "choose an attribute and list the pictures with it and with their split for csv:FILE",
}


def is_official(name: str) -> bool:
    """Tell `torchvision:NAME` from other names of data sets."""
    return name.startswith(PREFIX)


def is_of_arrays(name: str) -> bool:
    """Tell those of torchvision's data sets that are arrays of one size, not picture files."""
    return is_official(name) and not find_set(name).pictures


def find_set(name: str) -> OfficialSet:
    """Return the data set called `torchvision:NAME`. Raises `DataError` for an unknown name."""
    own = name.removeprefix(PREFIX)
    if own in SETS:
        return SETS[own]
    if own in UNFIT:
        raise DataError(f"data set {name}: it has {UNFIT[own]}")
    spelt = {known.lower(): known for known in SETS}
    close = closest_hint(own.lower(), spelt)
    for lower, known in spelt.items():
        close = close.replace(f": {lower})", f": {known})")
    variants = [known for known in SETS if known.startswith(f"{own}-")]
    which = f"; one of {', '.join(variants)}" if variants else close
    raise DataError(
        f"data set {name}: torchvision has no classification data set {own!r} that is known "
        f"here{which}; known: {', '.join(SETS)}"
    )
