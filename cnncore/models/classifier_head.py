"""Head of a network: the layers from the features to the logits, and auxiliary heads."""

from __future__ import annotations

from torch import nn

# Names of heads in torchvision's networks and in ours; auxiliary heads are a training aid.
HEADS, AUXILIARY = ("classifier", "fc"), ("aux1", "aux2", "AuxLogits")


def head_names(model: nn.Module) -> list[str]:
    """Return the names of the head's children: `classifier` or `fc`, and auxiliary heads.

    In a network without such a child the linear layers among its children are the head. Raises
    `ValueError` if there are none of these either.
    """
    children = dict(model.named_children())
    if any(name in HEADS for name in children):
        return [name for name in children if name in (*HEADS, *AUXILIARY)]
    if names := [name for name, child in children.items() if isinstance(child, nn.Linear)]:
        return names
    raise ValueError(
        f"{type(model).__name__} has no head that could be told from its features: call it "
        f"{' or '.join(HEADS)}"
    )


def freeze_features(model: nn.Module) -> None:
    """Turn off the gradients of all weights but the head's."""
    heads = head_names(model)
    for name, child in model.named_children():
        if name not in heads:
            child.requires_grad_(False)


def feature_norms(model: nn.Module) -> list[nn.Module]:
    """Return the BatchNorms outside the head."""
    heads = head_names(model)
    return [
        module
        for name, child in model.named_children()
        if name not in heads
        for module in child.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
