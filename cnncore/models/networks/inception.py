"""GoogLeNet (arXiv 1409.4842) and Inception v3 (arXiv 1512.00567) with their auxiliary heads."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.googlenet import GoogLeNet
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

from cnncore.catalog import AUX_WEIGHT

# Side of the maps that Inception v3's auxiliary head expects: those of 299-pixel images.
HEAD_SIDE = 17


def googlenet(classes: int, dropout: float = 0.2, aux_weight: float = AUX_WEIGHT) -> nn.Module:
    """Build torchvision's GoogLeNet; 9,945,263 trainable and 15,072 other values for five classes.

    In training mode it returns its logits and those of its two auxiliary heads, else its logits
    alone. With `aux_weight` 0 it has no auxiliary heads.
    """
    model: nn.Module = GoogLeNet(
        classes, aux_logits=aux_weight > 0, dropout=dropout, init_weights=True
    )
    return model


def inception_v3(classes: int, dropout: float = 0.5, aux_weight: float = AUX_WEIGHT) -> nn.Module:
    """Build torchvision's Inception v3; 24,357,354 trainable, 36,224 other values for five classes.

    In training mode it returns its logits and those of its auxiliary head, else its logits alone.
    With `aux_weight` 0 it has no auxiliary head.
    """
    blocks = [
        BasicConv2d, InceptionA, InceptionB, InceptionC, InceptionD, InceptionE, AnySizeHead
    ]  # fmt: skip
    model: nn.Module = Inception3(
        classes,
        aux_logits=aux_weight > 0,
        inception_blocks=blocks,
        init_weights=True,
        dropout=dropout,
    )
    return model


class AnySizeHead(InceptionAux):  # type: ignore[misc]  # torchvision has no types here
    """torchvision's auxiliary head; maps of smaller images are enlarged to the 17x17 it needs."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, 768, h, w)` to logits `(batch, classes)`."""
        if x.shape[-1] < HEAD_SIDE:
            x = F.adaptive_avg_pool2d(x, HEAD_SIDE)
        logits: Tensor = super().forward(x)
        return logits
