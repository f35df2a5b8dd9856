"""The head of a network: the layers after the features, down to the logits, and auxiliary heads."""

from __future__ import annotations

from torch import nn

# Names of heads in torchvision's networks and in ours; auxiliary ones are a training aid.
HEADS, AUXILIARY = ("classifier", "fc"), ("aux1", "aux2", "AuxLogits")


def head_names(model: nn.Module) -> list[str]:
    """Names of the children that make up the head: `classifier` or `fc` and auxiliary heads.

    A network that has no such child, but is a plain sequence, has its linear layers as the head.
    Raises `ValueError` where there is neither.
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
    """Take the gradients of all weights but the head's."""
    heads = head_names(model)
    for name, child in model.named_children():
        if name not in heads:
            child.requires_grad_(False)


def feature_norms(model: nn.Module) -> list[nn.Module]:
    """The BatchNorms outside the head."""
    heads = head_names(model)
    return [
        module
        for name, child in model.named_children()
        if name not in heads
        for module in child.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
