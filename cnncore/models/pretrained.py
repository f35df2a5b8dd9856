"""Loading of pre-trained weights, checked layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cnncore.catalog import NETWORKS
from cnncore.models.classifier_head import AUXILIARY, HEADS, head_names
from cnncore.models.pretrained_source import IMAGENET, WeightsError, check_imagenet, fingerprint
from cnncore.models.weights_file import Weights, read_weights, with_names_of

# Layers that a message names; it only counts the rest.
NAMED_LAYERS = 4


def load_pretrained(
    model: nn.Module, arch: str, source: str, expected_fingerprint: str | None = None
) -> set[str]:
    """Load weights from `source`, `imagenet` or the path of a file, into `model`.

    Returns the names of the tensors that were loaded.

    The last layers of the head and of auxiliary heads stay unchanged if the number of classes
    differs. ImageNet weights are torchvision's `IMAGENET1K_V1`, downloaded once; they
    expect `normalize: imagenet`. Raises `WeightsError`.
    """
    if source == IMAGENET:
        if problem := check_imagenet(arch, {}):
            raise WeightsError(problem)
        weights = _for_keras(arch, model, _download(str(NETWORKS[arch].torchvision)))
        if hasattr(model, "transform_input"):
            # These weights expect another normalisation; with the flag torchvision converts to it.
            setattr(model, "transform_input", True)  # noqa: B010  # a flag, not a module
    else:
        if expected_fingerprint is not None and fingerprint(source) != expected_fingerprint:
            raise WeightsError(f"{source} has changed since the sweep was planned; plan it again")
        weights = read_weights(source)
    fitting = fit_to(model, weights, source)
    model.load_state_dict(fitting, strict=False)
    return set(fitting)


def fit_to(model: nn.Module, weights: Weights, source: str) -> Weights:
    """Return the `weights` that `model` takes, under its names, whatever wrapped them.

    Raises `WeightsError` if they do not fit.
    """
    own = model.state_dict()
    weights, prefix = with_names_of(weights, own, source)
    add_frozen_scales(model, weights)
    try:
        return select_fitting(model, weights, source)
    except WeightsError as problem:
        about = f" (names without their prefix {prefix})" if prefix else ""
        raise WeightsError(f"{problem}{about}") from None


def select_fitting(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> Weights:
    """Return the `weights` that `model` takes. Raises `WeightsError` if the others do not fit.

    Left out are auxiliary heads that only one of the two has, and tensors of a head that differ
    in nothing but the number of classes.
    """
    own = model.state_dict()
    heads = head_names(model)
    main = tuple(f"{name}." for name in heads if name not in AUXILIARY)
    classes = {
        name: _class_count(own, (f"{name}.",) if name in AUXILIARY else main) for name in heads
    }
    problems: list[str] = []
    fitting: Weights = {}
    for name in sorted({*own, *weights}):
        top = name.partition(".")[0]
        if name in own and name in weights:
            has, wants = tuple(weights[name].shape), tuple(own[name].shape)
            if weights[name].is_floating_point() < own[name].is_floating_point():
                problems.append(
                    f"{name} is {_dtype(weights[name])}, the network wants {_dtype(own[name])}"
                )
            elif weights[name].is_meta:
                problems.append(f"{name} has a shape but no values (a tensor of the meta device)")
            elif has == wants:
                fitting[name] = weights[name]
            elif has[1:] != wants[1:] or top not in heads or wants[0] != classes[top]:
                problems.append(f"{name} is {_shape(has)}, the network wants {_shape(wants)}")
        elif top not in AUXILIARY and not name.endswith("num_batches_tracked"):
            # Files older than PyTorch 0.4.1 lack these counters of BatchNorm.
            missing = "not in the file" if name in own else "not in the network"
            problems.append(f"{name} is {missing}")
    if problems:
        more = f"; and {len(problems) - NAMED_LAYERS} more" if len(problems) > NAMED_LAYERS else ""
        raise WeightsError(f"{source} does not fit: {'; '.join(problems[:NAMED_LAYERS])}{more}")
    return fitting


def add_frozen_scales(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give BatchNorms without a scale, such as those of Keras' Inception, the file's, frozen."""
    for name, module in model.named_modules():
        scale = weights.get(f"{name}.weight")
        if isinstance(module, nn.BatchNorm2d) and module.weight is None and scale is not None:
            module.weight = nn.Parameter(scale.clone(), requires_grad=False)


def _class_count(own: Mapping[str, Tensor], head: tuple[str, ...]) -> int:
    """Return the number of classes of a head: the length of its last tensor."""
    return [value.shape[0] for name, value in own.items() if name.startswith(head) and value.dim()][
        -1
    ]


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def check_fit(arch: str, image_size: int, options: Mapping[str, object], path: str) -> None:
    """Raise `WeightsError` if the file is unsafe or does not fit the network; builds no weights."""
    from cnncore.models.builder import build_model

    try:
        with torch.device("meta"):
            model = build_model(arch, classes=2, image_size=image_size, **options)
    except Exception:  # not every network of the user's can go there
        with torch.random.fork_rng(devices=[]):
            model = build_model(arch, classes=2, image_size=image_size, **options)
    fit_to(model, read_weights(path), path)


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
