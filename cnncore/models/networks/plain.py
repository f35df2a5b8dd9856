"""Networks that are torchvision's as they are: a constructor's name and the number of classes."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model

from cnncore.models.activation import replace_relu


def plain(network: str, classes: int) -> nn.Module:
    """torchvision's `network`."""
    model: nn.Module = get_model(network, num_classes=classes)
    return model


def with_dropout(network: str, classes: int, dropout: float | None = None) -> nn.Module:
    """torchvision's `network`, with another dropout probability before its dense layers."""
    options = {} if dropout is None else {"dropout": dropout}
    model: nn.Module = get_model(network, num_classes=classes, **options)
    return model


def with_activation(
    network: str, classes: int, activation: str = "relu", dropout: float | None = None
) -> nn.Module:
    """torchvision's `network`, with another function in the place of every ReLU."""
    model = with_dropout(network, classes, dropout)
    if activation != "relu":
        replace_relu(model, activation)
    return model
