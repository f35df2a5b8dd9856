"""Four networks of `keras.applications`, as astrokhet-2024 trained them, on torchvision's bodies.

If Keras and torchvision differ, these networks compute as Keras does: padding of strided
convolutions, BatchNorm's momentum (in PyTorch's notation) and epsilon, and initial weights
(except for EfficientNet's body: both draw from He's distribution). All but ResNet-50 end in a
hidden dense layer of 1024 and one for the classes.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import efficientnet_b0, mobilenet_v2, resnet50
from torchvision.models.inception import (
    BasicConv2d,
    Inception3,
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)
from torchvision.models.resnet import Bottleneck

from cnncore.models.tensorflow_padding import pad_strided_as_keras

# Keras' defaults: momentum 0.99, epsilon 0.001.
NORM: dict[str, Any] = {"eps": 1e-3, "momentum": 0.01}
HIDDEN = 1024


def resnet50_keras(classes: int) -> nn.Module:
    """Build ResNet-50: 23,544,837 trainable and 53,120 other values for five classes.

    Every convolution has a bias, and the first 1x1 convolution of a stage has its stride.
    """
    norm = partial(nn.BatchNorm2d, eps=1.001e-5, momentum=NORM["momentum"])
    model: nn.Module = resnet50(num_classes=classes, norm_layer=norm)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        if isinstance(module, Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    draw_as_keras(model)
    return model


def inception_v3_keras(classes: int, dropout: float = 0.5) -> nn.Module:
    """Build Inception v3 without an auxiliary head.

    23,871,653 trainable and 34,432 other values for five classes. Its BatchNorms have an offset
    and no scale, and averages leave out the padding.
    """
    kinds = (InceptionA, InceptionB, InceptionC, InceptionD, InceptionE)
    blocks = [partial(kind, conv_block=ConvNoScale) for kind in kinds]
    model: nn.Module = Inception3(
        classes,
        aux_logits=False,
        inception_blocks=[ConvNoScale, *blocks, InceptionAux],
        init_weights=False,
    )
    for module in model.modules():
        if isinstance(module, (InceptionA, InceptionC, InceptionE)):
            pooled = module.branch_pool.conv
            module.branch_pool = PooledConv(pooled.in_channels, pooled.out_channels, kernel_size=1)
    model.dropout = nn.Identity()
    model.fc = _dense_layers(2048, classes, dropout)
    draw_as_keras(model)
    return model


def efficientnet_b0_keras(classes: int, dropout: float = 0.5) -> nn.Module:
    """Build EfficientNet-B0: 5,324,417 trainable and 42,023 other values for five classes.

    Seven of the latter are the statistics of its input normalisation.
    """
    model: nn.Module = efficientnet_b0(norm_layer=partial(nn.BatchNorm2d, **NORM))
    pad_strided_as_keras(model)
    stages = OrderedDict(
        normalization=InputNormalization(), **dict(model.get_submodule("features").named_children())
    )
    model.features = nn.Sequential(stages)
    model.classifier = _dense_layers(1280, classes, dropout)
    draw_as_keras(model.classifier)
    return model


def mobilenet_v2_keras(classes: int, dropout: float = 0.5) -> nn.Module:
    """Build MobileNetV2: 3,540,741 trainable and 34,112 other values for five classes."""
    norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.001)
    model: nn.Module = mobilenet_v2(norm_layer=norm)
    pad_strided_as_keras(model)
    model.classifier = _dense_layers(1280, classes, dropout)
    draw_as_keras(model)
    return model


def draw_as_keras(model: nn.Module) -> None:
    """Draw every weight as Keras does by default: Glorot's uniform distribution, biases zero."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class ConvNoScale(BasicConv2d):  # type: ignore[misc]  # torchvision has no types here
    """Convolution, BatchNorm without a scale, ReLU."""

    def __init__(self, width_in: int, width_out: int, **options: Any) -> None:
        super().__init__(width_in, width_out, **options)
        self.bn = nn.BatchNorm2d(width_out, **NORM)
        self.bn.register_parameter("weight", None)


class PooledConv(ConvNoScale):
    """`ConvNoScale` after torchvision's 3x3 averages, corrected to leave the padding out."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, width_in, h, w)` to `(batch, width_out, h, w)`."""
        inside = F.avg_pool2d(x.new_ones(1, 1, *x.shape[-2:]), 3, 1, padding=1)
        out: Tensor = super().forward(x / inside)
        return out


class InputNormalization(nn.Module):
    """Keras' layer before the first convolution: mean and variance per channel, and a count.

    The values are those of images that are normalised already, and they never change: the
    setting `normalize` does the same work for all networks.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("variance", torch.ones(3))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, 3, h, w)` to the same shape."""
        return (x - self.mean[:, None, None]) / self.variance[:, None, None].sqrt()


def _dense_layers(width: int, classes: int, dropout: float) -> nn.Sequential:
    """Build a hidden dense layer and one for the classes (the paper states no activation)."""
    return nn.Sequential(
        nn.Linear(width, HIDDEN),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(HIDDEN, classes),
    )
