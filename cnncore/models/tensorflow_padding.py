"""TensorFlow's "same" padding: an odd zero goes after the image, not before."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """Convolution whose output side is the input side divided by the stride, rounded up.

    The padding needed is split in two; an odd element goes below and to the right. So the windows
    of a strided convolution lie at other positions than with PyTorch's equal padding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map `(batch, in, h, w)` to `(batch, out, ceil(h / stride), ceil(w / stride))`."""
        return super().forward(self.pad(input))

    def pad(self, input: Tensor) -> Tensor:
        """Add the zeros around the input that this layer needs."""
        height, width = input.shape[-2:]
        top, bottom = _zeros(height, self.kernel_size[0], self.stride[0])
        left, right = _zeros(width, self.kernel_size[1], self.stride[1])
        return F.pad(input, (left, right, top, bottom)) if bottom or right else input


def pad_strided_as_keras(model: nn.Module) -> None:
    """Replace every padded, strided convolution by `SameConv2d` with the same weights."""
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1) and layer.padding != (0, 0):
                same = SameConv2d(
                    layer.in_channels,
                    layer.out_channels,
                    layer.kernel_size,  # type: ignore[arg-type]  # a pair, for two dimensions
                    layer.stride,  # type: ignore[arg-type]
                    groups=layer.groups,
                    bias=layer.bias is not None,
                )
                same.weight, same.bias = layer.weight, layer.bias
                setattr(module, name, same)


def _zeros(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the number of zeros before and after."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
