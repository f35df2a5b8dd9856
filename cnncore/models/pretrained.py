"""Loading of pre-trained weights, checked layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cnncore.catalog import NETWORKS, library_of
from cnncore.models.classifier_head import AUXILIARY, HEADS
from cnncore.models.fitting import fit_to
from cnncore.models.libraries.published import fit_library, old_densenet_names, published_file
from cnncore.models.on_meta import build_on_meta
from cnncore.models.pretrained_source import IMAGENET, WeightsError, check_imagenet, fingerprint
from cnncore.models.weights_file import Weights, read_weights


def load_pretrained(
    model: nn.Module,
    arch: str,
    source: str,
    expected_fingerprint: str | None = None,
    *,
    image_size: int | None = None,
    options: Mapping[str, object] | None = None,
) -> set[str]:
    """Load weights from `source`, `imagenet` or the path of a file, into `model`.

    Returns the names of the tensors that were loaded.

    The last layers of the head and of auxiliary heads stay unchanged if the number of classes
    differs. ImageNet weights are torchvision's `IMAGENET1K_V1`, downloaded once; they
    expect `normalize: imagenet`. Those of a library's network are its published ones, from the
    library's cache; `image_size` and `options` are those that the network was built with. Raises
    `WeightsError`.
    """
    if library_of(arch):
        published = source == IMAGENET
        path = str(published_file(arch)) if published else source
        _check_fingerprint(path, expected_fingerprint)
        fitting = fit_library(model, arch, path, image_size, options or {}, published=published)
        if published:
            _convert_input(model)
    elif source == IMAGENET:
        if problem := check_imagenet(arch, {}):
            raise WeightsError(problem)
        weights = _for_keras(arch, model, _download(str(NETWORKS[arch].torchvision)))
        _convert_input(model)
        fitting = fit_to(model, old_densenet_names(weights), source)
    else:
        _check_fingerprint(source, expected_fingerprint)
        fitting = fit_to(model, read_weights(source), source)
    model.load_state_dict(fitting, strict=False)
    return set(fitting)


def _check_fingerprint(path: str, expected: str | None) -> None:
    """Raise `WeightsError` if a file is not the one that the sweep was planned with."""
    if expected is not None and fingerprint(path) != expected:
        raise WeightsError(f"{path} has changed since the sweep was planned; plan it again")


def _convert_input(model: nn.Module) -> None:
    """Let torchvision's Inception networks convert images to the normalisation of their weights."""
    if hasattr(model, "transform_input"):
        setattr(model, "transform_input", True)  # noqa: B010  # a flag, not a module


def check_fit(
    arch: str,
    image_size: int,
    options: Mapping[str, object],
    path: str,
    *,
    published: bool = False,
) -> None:
    """Raise `WeightsError` if the file is unsafe or does not fit the network.

    `published` says that it is the library's own file. Weights are drawn only if timm has to
    convert the file.
    """
    from cnncore.models.builder import build_model

    def build() -> nn.Module:
        return build_model(arch, classes=2, image_size=image_size, **options)

    try:
        model = build_on_meta(build)
    except Exception:  # not every network of the user's can go there
        with torch.random.fork_rng(devices=[]):
            model = build()
    if library_of(arch):
        fit_library(model, arch, path, image_size, options, published=published)
    else:
        fit_to(model, read_weights(path), path)


def missing_weights(arch: str) -> str | None:
    """Return where the ImageNet weights of a network of the catalog must lie; None if they do."""
    from torchvision.models import get_model_weights

    url = str(get_model_weights(str(NETWORKS[arch].torchvision))["IMAGENET1K_V1"].url)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if (folder / Path(url).name).is_file():
        return None
    return (
        f"{arch}: its ImageNet weights are not here: `cnngrid run` downloads {url}; without a "
        f"network put {Path(url).name} into {folder}"
    )


def _download(network: str) -> Weights:
    """Return torchvision's weights from its cache, or download them."""
    # Imported here, because most trials need no weights and the import takes half a second.
    from torchvision.models import get_model_weights

    weights = get_model_weights(network)["IMAGENET1K_V1"]
    try:
        state: Weights = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"the ImageNet weights of {network} could not be downloaded ({error}); "
            f"get {weights.url} elsewhere and put it into {cache}"
        ) from None
    return state


def _for_keras(arch: str, model: nn.Module, weights: Weights) -> Weights:
    """Convert torchvision's weights for a network of Keras; for others return them unchanged.

    The heads are left out, and biases of convolutions are zero.
    """
    if not arch.endswith("_keras"):
        return weights
    own = model.state_dict()
    kept = {
        name: value
        for name, value in weights.items()
        if name.partition(".")[0] not in (*HEADS, *AUXILIARY)
    }
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            kept.setdefault(f"{name}.bias", torch.zeros_like(module.bias))
    fresh = ("features.normalization", *HEADS)
    return {**{name: own[name] for name in own if name.startswith(fresh)}, **kept}
