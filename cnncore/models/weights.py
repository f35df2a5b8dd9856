"""Where pre-trained weights come from, checked without torch: `imagenet`, or a file by its path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnncore.catalog import NETWORKS

IMAGENET = "imagenet"
# Options that give layers other shapes than those of torchvision's weights.
SHAPING = ("width", "depth", "stem")


class WeightsError(Exception):
    """Weights that are not there, cannot be read safely or do not fit; the message says which."""


def check_imagenet(arch: str, options: Mapping[str, Any]) -> str | None:
    """What is wrong with `pretrained: imagenet` for this network, or None."""
    network = NETWORKS.get(arch)
    if network is None or network.torchvision is None:
        known = ", ".join(sorted(name for name, n in NETWORKS.items() if n.torchvision))
        return f"{arch} has no ImageNet weights; give a file, or take one of {known}"
    for key in SHAPING:
        if options.get(key) not in (None, IMAGENET, 1.0):
            return (
                f"{arch}: torchvision's ImageNet weights do not fit {key} {options[key]}; "
                f"leave {key} or pretrained out"
            )
    return None


def fingerprint(path: str | Path) -> str:
    """16 hex digits of a weights file's content. Raises `WeightsError` where there is none."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise WeightsError(
            f"pretrained: {path} cannot be read ({error.strerror}); "
            f"give {IMAGENET} or the path of a .pt or .pth file"
        ) from None
