"""EfficientNets (arXiv 1905.11946): torchvision's, with multipliers of depth and width."""

from __future__ import annotations

from torch import nn
from torchvision.models.efficientnet import EfficientNet, MBConvConfig

# Expansion, kernel, stride, channels in, channels out and blocks of B0's stages (Table 1).
STAGES = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
# Width, depth and dropout of each, as in torchvision and the paper's own code.
MEMBERS = {
    "efficientnet_b0": (1.0, 1.0, 0.2),
    "efficientnet_b1": (1.0, 1.1, 0.2),
    "efficientnet_b2": (1.1, 1.2, 0.3),
    "efficientnet_b3": (1.2, 1.4, 0.3),
}


def efficientnet(
    network: str,
    classes: int,
    dropout: float | None = None,
    width: float = 1.0,
    depth: float = 1.0,
) -> nn.Module:
    """Build a member of the family, its channels times `width`, blocks per stage times `depth`.

    Channels are rounded to a multiple of eight and never by more than a tenth down, blocks are
    rounded up, as the paper does between its members: `efficientnet_b0` with width 1.1 and depth
    1.2 is the body of `efficientnet_b2`.
    """
    own_width, own_depth, own_dropout = MEMBERS[network]
    stages = [
        MBConvConfig(*stage, width_mult=own_width * width, depth_mult=own_depth * depth)
        for stage in STAGES
    ]
    model: nn.Module = EfficientNet(
        stages, dropout=own_dropout if dropout is None else dropout, num_classes=classes
    )
    return model
