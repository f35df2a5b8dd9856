"""torchvision's networks without a change of layers: VGG, SqueezeNet, ShuffleNet, ConvNeXt."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model

from cnncore.models.activation import replace_relu


def plain(network: str, classes: int) -> nn.Module:
    """Build torchvision's `network`."""
    model: nn.Module = get_model(network, num_classes=classes)
    return model


def with_dropout(network: str, classes: int, dropout: float | None = None) -> nn.Module:
    """Build torchvision's `network` with a dropout probability before its dense layers."""
    options = {} if dropout is None else {"dropout": dropout}
    model: nn.Module = get_model(network, num_classes=classes, **options)
    return model


def with_activation(
    network: str, classes: int, activation: str = "relu", dropout: float | None = None
) -> nn.Module:
    """Build torchvision's `network` with `activation` instead of every ReLU."""
    model = with_dropout(network, classes, dropout)
    if activation != "relu":
        replace_relu(model, activation)
    return model
