"""Pre-trained weights: read without running code, checked layer by layer, put into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cnncore.catalog import NETWORKS
from cnncore.checkpoint import DamagedCheckpoint, load_checkpoint
from cnncore.models.head import AUXILIARY, HEADS, head_names
from cnncore.models.weights import IMAGENET, WeightsError, check_imagenet, fingerprint

Weights = dict[str, Tensor]

# How many layers a message names before it only counts the rest.
NAMED = 4


def load_pretrained(
    model: nn.Module, arch: str, source: str, expected_fingerprint: str | None = None
) -> set[str]:
    """Put weights from `source` into `model`: `imagenet`, or the path of a file.

    Returns the names of the tensors that it filled.

    The head's last layers, and those of auxiliary heads, stay as they are where the number of
    classes differs. ImageNet weights are torchvision's `IMAGENET1K_V1`, downloaded once; they
    expect `normalize: imagenet`. Raises `WeightsError`.
    """
    if source == IMAGENET:
        if problem := check_imagenet(arch, {}):
            raise WeightsError(problem)
        weights = _for_keras(arch, model, _download(str(NETWORKS[arch].torchvision)))
        if hasattr(model, "transform_input"):
            # These were trained on another normalisation, to which torchvision's body then turns.
            setattr(model, "transform_input", True)  # noqa: B010  # a flag, not a module
    else:
        if expected_fingerprint is not None and fingerprint(source) != expected_fingerprint:
            raise WeightsError(f"{source} has changed since the sweep was planned; plan it again")
        weights = read_weights(source)
    take_scales(model, weights)
    fitting = fit(model, weights, source)
    model.load_state_dict(fitting, strict=False)
    return set(fitting)


def read_weights(path: str | Path) -> Weights:
    """The tensors of a state dict, or of a checkpoint with `weights`. Raises `WeightsError`.

    Only tensors and plain values are read: a file whose pickle would run code is refused.
    """
    try:
        payload = load_checkpoint(path)
    except DamagedCheckpoint as problem:
        raise WeightsError(
            f"{problem}; a weights file must hold tensors only (torch.save of a state_dict), so "
            "that reading it cannot run code"
        ) from None
    if payload is None:
        raise WeightsError(f"pretrained: there is no file {path}")
    weights = payload.get("weights", payload)
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(map(torch.is_tensor, weights.values()))
    ):
        raise WeightsError(f"{path}: expected a state dict, or a checkpoint with `weights`")
    return weights


def fit(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> Weights:
    """Those of `weights` that go into `model`. Raises `WeightsError` where the rest does not fit.

    Left out are auxiliary heads that one of the two lacks, and the tensors of a head that differ
    in the number of classes alone.
    """
    own = model.state_dict()
    heads = head_names(model)
    main = tuple(f"{name}." for name in heads if name not in AUXILIARY)
    classes = {
        name: _last_size(own, (f"{name}.",) if name in AUXILIARY else main) for name in heads
    }
    problems: list[str] = []
    fitting: Weights = {}
    for name in sorted({*own, *weights}):
        top = name.partition(".")[0]
        if name in own and name in weights:
            has, wants = tuple(weights[name].shape), tuple(own[name].shape)
            if has == wants:
                fitting[name] = weights[name]
            elif has[1:] != wants[1:] or top not in heads or wants[0] != classes[top]:
                problems.append(f"{name} is {_shape(has)}, the network wants {_shape(wants)}")
        elif top not in AUXILIARY and not name.endswith("num_batches_tracked"):
            # Files older than PyTorch 0.4.1 lack these counters of BatchNorm.
            where = "not in the file" if name in own else "not in the network"
            problems.append(f"{name} is {where}")
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise WeightsError(f"{source} does not fit: {'; '.join(problems[:NAMED])}{more}")
    return fitting


def take_scales(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give BatchNorms that have no scale, as Keras' Inception has them, the file's, frozen."""
    for name, module in model.named_modules():
        scale = weights.get(f"{name}.weight")
        if isinstance(module, nn.BatchNorm2d) and module.weight is None and scale is not None:
            module.weight = nn.Parameter(scale.clone(), requires_grad=False)


def _last_size(own: Mapping[str, Tensor], head: tuple[str, ...]) -> int:
    """How many classes a head has: its last tensor's length."""
    return [value.shape[0] for name, value in own.items() if name.startswith(head) and value.dim()][
        -1
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def check_fit(arch: str, image_size: int, options: Mapping[str, object], path: str) -> None:
    """Raise `WeightsError` if the file is unsafe or does not fit the network; builds no weights."""
    from cnncore.models.builder import build_model

    with torch.device("meta"):
        model = build_model(arch, classes=2, image_size=image_size, **options)
    weights = read_weights(path)
    take_scales(model, weights)
    fit(model, weights, path)


def _download(network: str) -> Weights:
    """torchvision's weights from its cache, or from the network."""
    # Most trials want no weights, and torchvision takes half a second to import.
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
    """torchvision's weights as a network of Keras' takes them; others' pass unchanged.

    Its heads go and biases of convolutions are zero.
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
