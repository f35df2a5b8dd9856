"""Weights compared with a network, layer by layer: which of them it takes, or why none."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cnncore.models.classifier_head import AUXILIARY, head_names, in_head
from cnncore.models.pretrained_source import WeightsError
from cnncore.models.weights_file import Weights, with_names_of

# Layers that a message names; it only counts the rest.
NAMED_LAYERS = 4


def fit_to(
    model: nn.Module, weights: Weights, source: str, *, without_head: bool = False
) -> Weights:
    """Return the `weights` that `model` takes, under its names, whatever wrapped them.

    Raises `WeightsError` if they do not fit; with `without_head` they may lack the head.
    """
    own = model.state_dict()
    weights, prefix = with_names_of(weights, own, source)
    add_frozen_scales(model, weights)
    try:
        return select_fitting(model, weights, source, without_head=without_head)
    except WeightsError as problem:
        about = f" (names without their prefix {prefix})" if prefix else ""
        raise WeightsError(f"{problem}{about}") from None


def select_fitting(
    model: nn.Module, weights: Mapping[str, Tensor], source: str, *, without_head: bool = False
) -> Weights:
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
        head = in_head(name, heads)
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
            elif has[1:] != wants[1:] or head is None or wants[0] != classes[head]:
                problems.append(f"{name} is {_shape(has)}, the network wants {_shape(wants)}")
        elif without_head and head is not None and name in own:
            continue
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
