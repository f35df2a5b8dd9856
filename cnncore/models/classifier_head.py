"""Head of a network: the layers from the features to the logits, and auxiliary heads."""

from __future__ import annotations

from typing import Any

from torch import nn

# Names of heads in torchvision's networks and in ours; auxiliary heads are a training aid.
HEADS, AUXILIARY = ("classifier", "fc"), ("aux1", "aux2", "AuxLogits")
# Name of the head in torchvision's vision transformers.
LAST_RESORT = "heads"


def head_names(model: nn.Module) -> list[str]:
    """Return the names of the head's modules: `classifier` or `fc`, and auxiliary heads.

    Of timm's networks it is the layer that `get_classifier` returns, which may lie deeper, as
    `head.fc`. In a network without such a child the linear layers among its children are the head,
    or the child `heads`. Raises `ValueError` if there are none of these either.
    """
    children = dict(model.named_children())
    if type(model).__module__.startswith("timm."):
        return _timm_head_names(model) + [name for name in children if name in AUXILIARY]
    if any(name in HEADS for name in children):
        return [name for name in children if name in (*HEADS, *AUXILIARY)]
    if names := [name for name, child in children.items() if isinstance(child, nn.Linear)]:
        return names
    if LAST_RESORT in children:
        return [LAST_RESORT]
    raise ValueError(
        f"{type(model).__name__} has no head that could be told from its features: call it "
        f"{' or '.join(HEADS)}"
    )


def _timm_head_names(model: nn.Module) -> list[str]:
    """Return the names of the layers that a network of timm names as its classifier."""
    get_classifier: Any = getattr(model, "get_classifier", tuple)
    found = get_classifier()
    layers = found if isinstance(found, tuple | list) else (found,)
    names = [
        name
        for name, module in model.named_modules()
        if any(module is layer for layer in layers) and any(True for _ in module.parameters())
    ]
    if not names:
        raise ValueError(f"timm's {type(model).__name__} does not tell which layer classifies")
    return names


def in_head(name: str, heads: list[str]) -> str | None:
    """Return the head that a parameter, buffer or module belongs to by its name, or None."""
    return next((head for head in heads if f"{name}.".startswith(f"{head}.")), None)


def freeze_features(model: nn.Module) -> None:
    """Turn off the gradients of all weights but the head's."""
    heads = head_names(model)
    for name, parameter in model.named_parameters():
        if in_head(name, heads) is None:
            parameter.requires_grad_(False)


def feature_norms(model: nn.Module) -> list[nn.Module]:
    """Return the BatchNorms outside the head."""
    heads = head_names(model)
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and in_head(name, heads) is None
    ]
