"""Every network and data set by name, in one literal; reading it imports nothing heavy."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Network:
    """A network: `module:function` that builds it, its options, and the image sides it takes."""

    build: str
    options: tuple[str, ...]
    smallest: int
    largest: int | None
    note: str

    @property
    def sides(self) -> str:
        """The image sides it takes, in words."""
        if self.largest is None:
            return f"{self.smallest} pixels and more"
        return f"{self.smallest} to {self.largest} pixels"


@dataclass(frozen=True)
class DataSource:
    """A data set: `module:function` that reads it, number of classes, side of its images.

    `labels` names its sets of labels, the default first, where it has several; `classes` is that
    of the first. In a `folder` of image files `image_size` is only a default.
    """

    load: str
    classes: int
    image_size: int
    note: str
    labels: tuple[str, ...] = ()
    folder: bool = False


NETWORKS: dict[str, Network] = {
    "cnn3": Network(
        "cnncore.models.cnn3:cnn3",
        ("activation",),
        32,
        39,
        "three convolutions and two dense layers (xiong-2022)",
    ),
    "mobilenet_small": Network(
        "cnncore.models.mobilenet_small:mobilenet_small",
        ("activation", "strides"),
        1,
        None,
        "stem and four depthwise-separable blocks (xiong-2022)",
    ),
    "alexnet": Network(
        "cnncore.models.alexnet:alexnet",
        ("activation", "dropout"),
        63,
        None,
        "torchvision's AlexNet",
    ),
    "alexnet_cifar": Network(
        "cnncore.models.alexnet:alexnet_cifar",
        ("activation", "dropout"),
        31,
        38,
        "AlexNet's widths on 32x32 images (zeng-alexnet, assumed)",
    ),
    "resnet18": Network(
        "cnncore.models.resnet:resnet18",
        (),
        1,
        None,
        "torchvision's ResNet-18, ImageNet stem",
    ),
    "mobilenet_v2": Network(
        "cnncore.models.mobilenet_v2:mobilenet_v2",
        ("dropout",),
        1,
        None,
        "torchvision's MobileNetV2",
    ),
}

DATASETS: dict[str, DataSource] = {
    "digits": DataSource(
        "cnncore.data.digits:read_digits",
        10,
        8,
        "1,797 handwritten digits, 8x8, shipped with scikit-learn",
    ),
    "cifar10": DataSource(
        "cnncore.data.cifar:read_cifar10",
        10,
        32,
        "60,000 photographs, 32x32, in ten classes",
    ),
    "cifar100": DataSource(
        "cnncore.data.cifar100:read_cifar100",
        100,
        32,
        "60,000 photographs, 32x32; labels: fine (100 classes) or coarse (20 superclasses)",
        labels=("fine", "coarse"),
    ),
    "flowers": DataSource(
        "cnncore.data.flowers:list_flowers",
        5,
        224,
        "photographs of five kinds of flowers, cut to image_size",
        folder=True,
    ),
    "fashion_mnist": DataSource(
        "cnncore.data.fashion_mnist:read_fashion_mnist",
        10,
        28,
        "70,000 grey pictures of clothes, 28x28, in ten classes",
    ),
    "svhn": DataSource(
        "cnncore.data.svhn:read_svhn",
        10,
        32,
        "99,289 digits of house numbers, 32x32 photographs",
    ),
}


def unknown_name(kind: str, name: str, known: dict[str, Network] | dict[str, DataSource]) -> str:
    """Say which names there are and which is closest; `kind` is "architecture" or "data set"."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (closest: {close[0]})" if close else ""
    return f"unknown {kind} {name!r}{hint}; known: {', '.join(sorted(known))}"


def check_labels(dataset: str, labels: str | None) -> str | None:
    """What is wrong with asking this data set for these labels, or None."""
    source = DATASETS.get(dataset)
    known = source.labels if source else ()
    if labels is None or labels in known:
        return None
    if not known:
        return f"{dataset} has one set of labels; leave `labels` out"
    return f"{dataset} has no labels {labels!r}; it has {' and '.join(known)}"


def check_network(arch: str, image_size: int, options: Mapping[str, Any]) -> str | None:
    """What is wrong with this network at this image side, or None; imports no network.

    `arch` is a name of `NETWORKS` or `package.module:function`, of which only the outermost
    package is looked for: importing the rest might load torch. Options whose value is None count
    as not given.
    """
    given = sorted(name for name, value in options.items() if value is not None)
    network = NETWORKS.get(arch)
    if network is None:
        return _check_own_network(arch, given)
    if refused := [name for name in given if name not in network.options]:
        takes = ", ".join(network.options) if network.options else "none"
        return f"{arch} does not take {', '.join(refused)}; its options: {takes}"
    if image_size < network.smallest or image_size > (network.largest or image_size):
        return f"{arch} takes images of {network.sides}, got {image_size}"
    return None


def _check_own_network(arch: str, given: list[str]) -> str | None:
    """The part of `check_network` for `package.module:function`."""
    module, colon, function = arch.partition(":")
    if not colon:
        return unknown_name("architecture", arch, NETWORKS)
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        return f"architecture {arch!r} must be a known name or package.module:function"
    package = module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        return f"{arch}: no module named {package}; it must be installed or on PYTHONPATH"
    if reserved := [name for name in given if name in ("classes", "image_size")]:
        return f"{arch}: {', '.join(reserved)} is given by cnngrid and cannot be an option"
    return None
