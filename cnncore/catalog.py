"""Every network and data set by name, in one literal; reading it imports nothing heavy."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cnncore.functions import check_function_name
from cnncore.spelling import as_written, closest_hint

# Source of a network's counts. "printed": a study's paper; "upstream": the public code that a
# study names, or torchvision; "derived": by arithmetic from one of these; "assumed": our own
# choice, because the paper gives no layer list.
Standing = Literal["printed", "upstream", "derived", "assumed"]

# Default weight of an auxiliary head's loss (arXiv 1409.4842).
AUX_WEIGHT = 0.3

# Libraries whose networks are known by name, as `timm:resnet18`, with a file that tells the library
# from another module of its name.
LIBRARIES = {"timm": "models/_registry.py", "torchvision": "models/_api.py"}
# Networks of libraries that have auxiliary heads unless they are told not to.
WITH_AUXILIARY_HEADS = ("torchvision:googlenet", "torchvision:inception_v3")


@dataclass(frozen=True)
class Network:
    """Network: the `module:function` that builds it, its options and allowed image sides.

    `torchvision` is the name of torchvision's network with the same body: its ImageNet weights
    fit, and a function with an argument `network` receives this name.
    """

    build: str
    options: tuple[str, ...]
    smallest: int
    largest: int | None
    standing: Standing
    note: str
    torchvision: str | None = None

    @property
    def sides(self) -> str:
        """Allowed image sides, in words."""
        if self.largest is None:
            return f"{self.smallest} pixels and more"
        return f"{self.smallest} to {self.largest} pixels"


@dataclass(frozen=True)
class DataSource:
    """Data set: the `module:function` that reads it, number of classes, side of its images.

    If a data set has several sets of labels, `labels` names them, the default first; `classes` is
    the number of classes of the first. For a `folder` of image files `image_size` is only a
    default. `images` are the numbers of training and test images as published.
    """

    load: str
    classes: int
    image_size: int
    note: str
    images: tuple[int, int]
    labels: tuple[str, ...] = ()
    folder: bool = False


# Few lines each, so that the whole table can be seen.
# fmt: off
NETWORKS: dict[str, Network] = {
    "cnn3": Network(
        "cnncore.models.networks.cnn3:cnn3", ("activation",), 32, 39,
        "printed", "three convolutions and two dense layers (xiong-2022)"),
    "mobilenet_small": Network(
        "cnncore.models.networks.mobilenet_small:mobilenet_small",
        ("activation", "strides", "width", "depth"), 1, None,
        "printed", "stem and four depthwise-separable blocks (xiong-2022)"),
    "alexnet": Network(
        "cnncore.models.networks.alexnet:alexnet", ("activation", "dropout"), 63, None,
        "printed", "torchvision's AlexNet (xiong-2022, hu-realm)", "alexnet"),
    "alexnet_bn": Network(
        "cnncore.models.networks.alexnet:alexnet_bn", ("activation", "dropout"), 67, None,
        "printed", "one tower with BatchNorm (astrokhet-2024)"),
    "alexnet_227": Network(
        "cnncore.models.networks.alexnet:alexnet_227", ("activation", "dropout"), 67, None,
        "assumed", "one tower (zeng-alexnet)"),
    "alexnet_cifar": Network(
        "cnncore.models.networks.alexnet:alexnet_cifar", ("activation", "dropout"), 31, 38,
        "assumed", "AlexNet's widths on 32x32 images (zeng-alexnet)"),
    "alexnet_kumar": Network(
        "cnncore.models.networks.alexnet_kumar:alexnet_kumar", ("activation", "dropout"), 1, 32,
        "derived", "with BatchNorm, on the logits too (simpson-cifar100)"),
    "alexnet_5x5": Network(
        "cnncore.models.networks.alexnet_kumar:alexnet_5x5", ("activation", "dropout"), 25, 32,
        "assumed", "the same, first kernels 5x5 (simpson-cifar100)"),
    "wrn_20_10": Network(
        "cnncore.models.networks.wide_resnet:wrn_20_10", ("width", "depth", "one_bit"), 1, None,
        "upstream", "McDonnell's wide ResNet (simpson-cifar100)"),
    "vgg11": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "upstream", "VGG-11", "vgg11"),
    "vgg11_bn": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "upstream", "VGG-11 with BatchNorm", "vgg11_bn"),
    "vgg13": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "upstream", "VGG-13", "vgg13"),
    "vgg13_bn": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "upstream", "VGG-13 with BatchNorm", "vgg13_bn"),
    "vgg16": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "printed", "VGG-16 (astrokhet-2024)", "vgg16"),
    "vgg16_bn": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "printed", "VGG-16 with BatchNorm (astrokhet-2024)", "vgg16_bn"),
    "vgg19": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "upstream", "VGG-19", "vgg19"),
    "vgg19_bn": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 32, None,
        "upstream", "VGG-19 with BatchNorm", "vgg19_bn"),
    "resnet18": Network(
        "cnncore.models.networks.resnet:resnet", ("width", "stem"), 1, None,
        "upstream", "ResNet-18 (hu-realm)", "resnet18"),
    "resnet34": Network(
        "cnncore.models.networks.resnet:resnet", ("width", "stem"), 1, None,
        "upstream", "ResNet-34", "resnet34"),
    "resnet50": Network(
        "cnncore.models.networks.resnet:resnet", ("width", "stem"), 1, None,
        "upstream", "ResNet-50", "resnet50"),
    "resnet101": Network(
        "cnncore.models.networks.resnet:resnet", ("width", "stem"), 1, None,
        "upstream", "ResNet-101", "resnet101"),
    "resnet152": Network(
        "cnncore.models.networks.resnet:resnet", ("width", "stem"), 1, None,
        "upstream", "ResNet-152", "resnet152"),
    "wide_resnet50_2": Network(
        "cnncore.models.networks.resnet:resnet", ("width", "stem"), 1, None,
        "upstream", "ResNet-50, inner layers twice as wide", "wide_resnet50_2"),
    "resnet50_keras": Network(
        "cnncore.models.networks.keras:resnet50_keras", (), 1, None,
        "printed", "Keras' ResNet-50, with biases (astrokhet-2024)", "resnet50"),
    "densenet121": Network(
        "cnncore.models.networks.densenet:densenet", ("stem",), 29, None,
        "upstream", "DenseNet-121", "densenet121"),
    "googlenet": Network(
        "cnncore.models.networks.inception:googlenet", ("dropout", "aux_weight"), 15, None,
        "upstream", "GoogLeNet with two auxiliary heads", "googlenet"),
    "inception_v3": Network(
        "cnncore.models.networks.inception:inception_v3", ("dropout", "aux_weight"), 75, None,
        "upstream", "Inception v3 with an auxiliary head", "inception_v3"),
    "inception_v3_keras": Network(
        "cnncore.models.networks.keras:inception_v3_keras", ("dropout",), 75, None,
        "printed", "Keras' Inception v3 (astrokhet-2024)", "inception_v3"),
    "mobilenet_v2": Network(
        "cnncore.models.networks.mobilenet:mobilenet", ("dropout", "width"), 1, None,
        "upstream", "MobileNetV2 (hu-realm)", "mobilenet_v2"),
    "mobilenet_v2_keras": Network(
        "cnncore.models.networks.keras:mobilenet_v2_keras", ("dropout",), 1, None,
        "printed", "Keras' MobileNetV2 (astrokhet-2024)", "mobilenet_v2"),
    "mobilenet_v3_small": Network(
        "cnncore.models.networks.mobilenet:mobilenet", ("dropout", "width"), 1, None,
        "upstream", "MobileNetV3, small", "mobilenet_v3_small"),
    "mobilenet_v3_large": Network(
        "cnncore.models.networks.mobilenet:mobilenet", ("dropout", "width"), 1, None,
        "upstream", "MobileNetV3, large", "mobilenet_v3_large"),
    "efficientnet_b0": Network(
        "cnncore.models.networks.efficientnet:efficientnet", ("dropout", "width", "depth"), 1, None,
        "upstream", "EfficientNet-B0", "efficientnet_b0"),
    "efficientnet_b1": Network(
        "cnncore.models.networks.efficientnet:efficientnet", ("dropout", "width", "depth"), 1, None,
        "upstream", "EfficientNet-B1", "efficientnet_b1"),
    "efficientnet_b2": Network(
        "cnncore.models.networks.efficientnet:efficientnet", ("dropout", "width", "depth"), 1, None,
        "upstream", "EfficientNet-B2", "efficientnet_b2"),
    "efficientnet_b3": Network(
        "cnncore.models.networks.efficientnet:efficientnet", ("dropout", "width", "depth"), 1, None,
        "upstream", "EfficientNet-B3", "efficientnet_b3"),
    "efficientnet_b0_keras": Network(
        "cnncore.models.networks.keras:efficientnet_b0_keras", ("dropout",), 1, None,
        "printed", "Keras' EfficientNet-B0 (astrokhet-2024 prints the total)", "efficientnet_b0"),
    "shufflenet_v2_x0_5": Network(
        "cnncore.models.networks.torchvision:plain", (), 1, None,
        "upstream", "ShuffleNetV2, 0.5 times as wide", "shufflenet_v2_x0_5"),
    "shufflenet_v2_x1_0": Network(
        "cnncore.models.networks.torchvision:plain", (), 1, None,
        "upstream", "ShuffleNetV2, 1.0 times as wide", "shufflenet_v2_x1_0"),
    "squeezenet1_0": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 21, None,
        "upstream", "SqueezeNet 1.0", "squeezenet1_0"),
    "squeezenet1_1": Network(
        "cnncore.models.networks.torchvision:with_activation", ("activation", "dropout"), 17, None,
        "upstream", "SqueezeNet 1.1", "squeezenet1_1"),
    "convnext_tiny": Network(
        "cnncore.models.networks.torchvision:plain", (), 32, None,
        "upstream", "ConvNeXt, tiny", "convnext_tiny"),
}
# fmt: on

DATASETS: dict[str, DataSource] = {
    "digits": DataSource(
        "cnncore.data.sources.digits:read_digits",
        10,
        8,
        "1,797 handwritten digits, 8x8, shipped with scikit-learn",
        (1_438, 359),
    ),
    "cifar10": DataSource(
        "cnncore.data.sources.cifar10:read_cifar10",
        10,
        32,
        "60,000 photographs, 32x32, in ten classes",
        (50_000, 10_000),
    ),
    "cifar100": DataSource(
        "cnncore.data.sources.cifar100:read_cifar100",
        100,
        32,
        "60,000 photographs, 32x32; labels: fine (100 classes) or coarse (20 superclasses)",
        (50_000, 10_000),
        labels=("fine", "coarse"),
    ),
    "flowers": DataSource(
        "cnncore.data.sources.flowers:list_flowers",
        5,
        224,
        "photographs of five kinds of flowers, cut to image_size",
        (3_454, 863),
        folder=True,
    ),
    "fashion_mnist": DataSource(
        "cnncore.data.sources.fashion_mnist:read_fashion_mnist",
        10,
        28,
        "70,000 grey pictures of clothes, 28x28, in ten classes",
        (60_000, 10_000),
    ),
    "svhn": DataSource(
        "cnncore.data.sources.svhn:read_svhn",
        10,
        32,
        "99,289 digits of house numbers, 32x32 photographs",
        (73_257, 26_032),
    ),
}


@dataclass(frozen=True)
class NetworkCounts:
    """Counts of a network for ten classes at the image side of its design."""

    image_size: int
    trainable: int
    non_trainable: int
    macs: int


def network_counts() -> dict[str, NetworkCounts]:
    """Read the counts of every network; they are stored, because building all takes a minute."""
    text = resources.files("cnncore").joinpath("network_counts.csv").read_text(encoding="utf-8")
    return {
        row.pop("arch"): NetworkCounts(**{key: int(value) for key, value in row.items()})
        for row in csv.DictReader(text.splitlines())
    }


def unknown_name(kind: str, name: str, known: dict[str, Network] | dict[str, DataSource]) -> str:
    """Return a message that lists the known names and the closest one.

    `kind` is "architecture" or "data set".
    """
    names = ", ".join(sorted(known))
    return f"unknown {kind} {as_written(name)}{closest_hint(name, known)}; known: {names}"


def check_labels(dataset: str, labels: str | None) -> str | None:
    """Return the problem with these labels of a data set, or None."""
    source = DATASETS.get(dataset)
    known = source.labels if source else ()
    if labels is None or labels in known:
        return None
    if not known:
        return f"{dataset} has one set of labels; leave `labels` out"
    return f"{dataset} has no labels {as_written(labels)}; it has {' and '.join(known)}"


def check_network(arch: str, image_size: int, options: Mapping[str, Any]) -> str | None:
    """Return the problem with this network at this image side, or None; imports no network.

    `arch` is a name of `NETWORKS`, a library's network or `package.module:function`. Of the last
    two only the outermost package is searched for, because importing the rest might load torch.
    Options whose value is None count as not given.
    """
    given = sorted(name for name, value in options.items() if value is not None)
    if library := library_of(arch):
        return _check_library(arch, library)
    network = NETWORKS.get(arch)
    if network is None:
        return _check_own_network(arch, given)
    if refused := [name for name in given if name not in network.options]:
        takes = ", ".join(network.options) if network.options else "none"
        return f"{arch} does not take {', '.join(refused)}; its options: {takes}"
    if image_size < network.smallest or image_size > (network.largest or image_size):
        return f"{arch} takes images of {network.sides}, got {image_size}"
    return None


def library_of(arch: str) -> str | None:
    """Return the library of a network given as `timm:NAME` or `torchvision:NAME`, else None."""
    library, colon, _ = arch.partition(":")
    return library if colon and library in LIBRARIES else None


def aux_weight_of(arch: str) -> float | None:
    """Return the default weight of the auxiliary heads' loss, None for networks without heads."""
    network = NETWORKS.get(arch)
    has_heads = (
        "aux_weight" in network.options
        if network
        else arch.partition(".")[0] in WITH_AUXILIARY_HEADS
    )
    return AUX_WEIGHT if has_heads else None


def _check_library(arch: str, library: str) -> str | None:
    """Return the problem with the library of a network, or None; import nothing."""
    spec = importlib.util.find_spec(library)
    if spec is None:
        return f'{arch}: {library} is not installed; install it: pip install "cnngrid[{library}]"'
    found = Path(spec.origin or "nowhere")
    if not (found.parent / LIBRARIES[library]).is_file():
        return (
            f"{arch}: {found} is found instead of the library {library}, whose name is reserved: "
            f"rename that module, such as my_{library}.py"
        )
    return None


def _check_own_network(arch: str, given: list[str]) -> str | None:
    """Return the problem with a network given as `package.module:function`, or None."""
    if ":" not in arch:
        return unknown_name("architecture", arch, NETWORKS)
    if problem := check_function_name(arch):
        return f"architecture {problem}"
    package = arch.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(package) is None:
        return f"{arch}: no module named {package}; it must be installed or on PYTHONPATH"
    if reserved := [name for name in given if name in ("classes", "image_size")]:
        return f"{arch}: {', '.join(reserved)} is given by cnngrid and cannot be an option"
    return None
