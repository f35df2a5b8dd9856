"""Source of pre-trained weights, `imagenet` or a file's path, checked without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnncore.catalog import NETWORKS, library_of
from cnncore.regular_file import check_regular

IMAGENET = "imagenet"
# Options that change the shapes of layers, so that torchvision's weights do not fit.
SHAPE_OPTIONS = ("width", "depth", "stem")


class WeightsError(Exception):
    """Error for weights that are missing, unsafe to read or do not fit; the message tells which."""


def check_imagenet(arch: str, options: Mapping[str, Any]) -> str | None:
    """Return the problem with `pretrained: imagenet` for this network, or None.

    It is None for a library's network, whose weights `cnncore.models.libraries.published` finds.
    """
    if library_of(arch):
        return None
    network = NETWORKS.get(arch)
    if network is None or network.torchvision is None:
        known = ", ".join(sorted(name for name, n in NETWORKS.items() if n.torchvision))
        return f"{arch} has no ImageNet weights; give a file, or take one of {known}"
    for key in SHAPE_OPTIONS:
        if options.get(key) not in (None, IMAGENET, 1.0):
            return (
                f"{arch}: torchvision's ImageNet weights do not fit {key} {options[key]}; "
                f"leave {key} or pretrained out"
            )
    return None


def fingerprint(path: str | Path) -> str:
    """Return 16 hex digits of a weights file's hash. Raises `WeightsError` if it is unreadable."""
    try:
        check_regular(path)
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise WeightsError(
            f"pretrained: {path} cannot be read ({error.strerror}); "
            f"give {IMAGENET} or the path of a .pt or .pth file"
        ) from None
