"""Pre-trained weights of torchvision's and timm's networks: found in the libraries' caches, fitted.

Nothing is downloaded here. A file that is not there is named with the place to put it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnncore.models.fitting import fit_to
from cnncore.models.libraries.names import check_name, known_tags, split_name, timm_facts
from cnncore.models.libraries.networks import create_timm
from cnncore.models.pretrained_source import WeightsError
from cnncore.models.weights_file import Weights, read_weights

# Names in the published files of torchvision's DenseNets, from before names could have no dots:
# `denselayer1.norm.1.weight` (torchvision/models/densenet.py).
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
# Files of weights on Hugging Face, in the order in which timm looks for them.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def published_file(arch: str) -> Path:
    """Return the file of a network's published weights in the library's cache.

    Raises `WeightsError` if the network has none or the file is not there.
    """
    name = split_name(arch)
    if problem := check_name(arch):
        raise WeightsError(problem)
    tags = known_tags(name.library, name.network)
    if not tags:
        raise WeightsError(f"{arch}: {name.library} has no weights for it; give the path of a file")
    if name.library == "torchvision":
        from torchvision.models import get_model_weights

        url = str(get_model_weights(name.network)[name.tag or tags[0]].url)
        return _in_torch_cache(arch, url, f"put {Path(url).name} from {url} into {{folder}}")
    return _timm_file(arch, name.full)


def published_normalization(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std of the images that a network's published weights were trained with.

    None if its library does not tell.
    """
    name = split_name(arch)
    if name.library == "torchvision":
        from torchvision.models import get_model_weights

        weights = get_model_weights(name.network)
        about = weights[name.tag or known_tags(name.library, name.network)[0]].transforms()
    else:
        about = timm_facts(name.full)
    mean, std = getattr(about, "mean", None), getattr(about, "std", None)
    return (tuple(mean), tuple(std)) if mean and std else None


def _timm_file(arch: str, full_name: str) -> Path:
    """Return the file of timm's weights, from Hugging Face's cache or from PyTorch's."""
    from huggingface_hub import constants, try_to_load_from_cache

    about = timm_facts(full_name)
    ways = []
    if about.hf_hub_id:
        files = (about.hf_hub_filename,) if about.hf_hub_filename else HUB_FILES
        repository, _, revision = about.hf_hub_id.partition("@")
        for file in files:
            found = try_to_load_from_cache(repository, file, revision=revision or None)
            if isinstance(found, str):
                return Path(found)
        ways.append(
            f"run `hf download {about.hf_hub_id} {files[0]}` where there is a network and copy "
            f"models--{repository.replace('/', '--')} into {constants.HF_HUB_CACHE}"
        )
    if about.url and not about.url.endswith(".npz"):
        ways.append(f"put {Path(about.url).name} from {about.url} into {{folder}}")
        return _in_torch_cache(arch, about.url, ", or ".join(ways))
    if not ways:
        raise WeightsError(
            f"{arch}: its weights are published as {Path(str(about.url)).suffix} only, which "
            "cannot be read safely; give the path of a .pth or .safetensors file"
        )
    raise _not_here(arch, ways[0])


def _in_torch_cache(arch: str, url: str, remedy: str) -> Path:
    """Return the file of an address in PyTorch's cache, or raise `WeightsError`."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(url).name
    if not path.is_file():
        raise _not_here(arch, remedy.format(folder=folder))
    return path


def _not_here(arch: str, remedy: str) -> WeightsError:
    return WeightsError(
        f"the published weights of {arch} are not on this machine: {remedy}, or give the path of "
        "a file as pretrained"
    )


def fit_library(
    model: nn.Module,
    arch: str,
    path: str,
    image_size: int | None,
    options: Mapping[str, Any],
    *,
    published: bool,
) -> Weights:
    """Return the tensors of a file that a library's network takes, under its names.

    Files that are `published`, or fit in no other way, are converted as the library does: old
    names, embeddings of positions for another image side. Raises `WeightsError` if the file does
    not fit.
    """
    weights = read_weights(path)
    if broken := [name for name, value in weights.items() if not _finite(value)]:
        raise WeightsError(f"{path}: {broken[0]} has values that are not finite")
    if split_name(arch).library == "torchvision":
        weights = with_positions(old_densenet_names(weights), model, image_size)
        return fit_to(model, weights, path)
    as_it_is = ""
    if not published:
        try:
            return fit_to(model, weights, path)
        except WeightsError as problem:
            as_it_is = f"{problem}; nor as a file that timm publishes: "
    converted = _convert_as_timm(arch, weights, image_size, options)
    if isinstance(converted, str):
        raise WeightsError(f"{as_it_is or f'{path} does not fit: '}{converted}")
    return fit_to(model, converted, path, without_head=_class_count(arch) == 0)


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or value.is_meta or bool(torch.isfinite(value).all())


def old_densenet_names(weights: Mapping[str, Tensor]) -> Weights:
    """Return weights with the names of today's DenseNet layers; others stay as they are."""
    return {OLD_DENSENET.sub(r"\1\2", name): value for name, value in weights.items()}


def with_positions(weights: Weights, model: nn.Module, image_size: int | None) -> Weights:
    """Interpolate a torchvision transformer's embeddings of positions to the network's side."""
    patch = getattr(model, "patch_size", None)
    key = "encoder.pos_embedding"
    if image_size is None or patch is None or key not in weights:
        return weights
    if weights[key].shape == model.state_dict()[key].shape or weights[key].dim() != 3:
        return weights
    from torchvision.models.vision_transformer import interpolate_embeddings

    interpolated: Weights = dict(interpolate_embeddings(image_size, patch, dict(weights)))
    return interpolated


def _class_count(arch: str) -> int:
    """Return the number of classes of a network's published weights in timm; 0 without a head."""
    return int(timm_facts(split_name(arch).full).num_classes)


def _convert_as_timm(
    arch: str, weights: Weights, image_size: int | None, options: Mapping[str, Any]
) -> Weights | str:
    """Return the weights as timm loads them into a network of their own classes, or the reason.

    timm's conversions are inside `create_model`, so a second network takes all of them, strictly.
    """
    given = {key: value for key, value in options.items() if value is not None}
    source = {"state_dict": dict(weights), "custom_load": False}
    given.pop("aux_weight", None)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            own = create_timm(
                split_name(arch).full,
                _class_count(arch),
                image_size,
                given,
                pretrained=True,
                pretrained_cfg_overlay=source,
            )
    except Exception as error:
        return " ".join(str(error).split())[:300]
    return own.state_dict()
