"""K networks of one shape as one network: the channels of all members lie one after another.

A prototype. It works on any network whose forward keeps channels in dimension 1 and never
concatenates along it. Hyperparameters of the members are vectors of K; the update is elementwise
over `(K, n)`. In float64 the members' numbers equal those of single networks.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StackedConv2d(nn.Module):
    """K convolutions as one in groups.

    With `shared` the input is one batch of images for all members, as in the first layer.
    """

    def __init__(self, layers: Sequence[nn.Conv2d], shared: bool) -> None:
        super().__init__()
        one = layers[0]
        if shared and one.groups > 1:
            raise ValueError("a first convolution in groups cannot be stacked")
        self.k, self.shared = len(layers), shared
        self.stride: Any = one.stride
        self.padding: Any = one.padding
        self.dilation: Any = one.dilation
        self.groups = one.groups if shared else one.groups * self.k
        self.weight = nn.Parameter(torch.cat([x.weight.detach() for x in layers]))
        biases = [x.bias.detach() for x in layers if x.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases)) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, K * in, H, W)` to `(B, K * out, H, W)`; the input has `in` channels if shared."""
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class StackedLinear(nn.Module):
    """K linear layers as one product of batches of matrices."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.k = len(layers)
        self.weight = nn.Parameter(torch.stack([x.weight.detach() for x in layers]))  # K, out, in
        biases = [x.bias.detach() for x in layers if x.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, K * in)` to `(B, K * out)`."""
        members = x.view(len(x), self.k, -1).transpose(0, 1)  # K, B, in
        weight = self.weight.transpose(1, 2)
        if self.bias is None:
            y = torch.bmm(members, weight)
        else:
            y = torch.baddbmm(self.bias[:, None], members, weight)
        return y.transpose(0, 1).reshape(len(x), -1)


def stack(models: Sequence[nn.Module]) -> nn.Module:
    """The members' networks as one that takes `(B, 3, H, W)` to `(B, K * classes)`."""
    one = copy.deepcopy(models[0])
    modules = dict(one.named_modules())
    members = [dict(model.named_modules()) for model in models]
    first = next(name for name, module in modules.items() if isinstance(module, nn.Conv2d))
    for name, module in modules.items():
        same: list[Any] = [member[name] for member in members]
        if isinstance(module, nn.Conv2d):
            new: nn.Module = StackedConv2d(same, shared=name == first)
        elif isinstance(module, nn.Linear):
            new = StackedLinear(same)
        elif isinstance(module, nn.BatchNorm2d):
            new = stacked_batch_norm(same)
        elif isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.MultiheadAttention, nn.Dropout)):
            raise ValueError(f"{type(module).__name__} cannot be stacked")
        else:
            continue
        parent, _, leaf = name.rpartition(".")
        setattr(modules[parent] if parent else one, leaf, new)
    return one


def stacked_batch_norm(layers: Sequence[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    """One BatchNorm over the channels of all members."""
    one = layers[0]
    channels = one.num_features * len(layers)
    new = nn.BatchNorm2d(channels, one.eps, one.momentum, one.affine)
    if one.running_mean is not None:
        new.to(one.running_mean.device, one.running_mean.dtype)
    for key in ("weight", "bias", "running_mean", "running_var"):
        if getattr(one, key) is not None:
            values = torch.cat([getattr(layer, key).detach() for layer in layers])
            getattr(new, key).data.copy_(values)
    return new


def member_state(model: nn.Module, k: int, i: int, like: nn.Module) -> dict[str, Tensor]:
    """The state of member `i` of `k`, shaped as that of the single network `like`."""
    shapes = like.state_dict()
    return {
        name: (v.reshape(k, *shapes[name].shape)[i] if v.dim() else v).detach().clone()
        for name, v in model.state_dict().items()
    }


class StackedSGD:
    """SGD with momentum, every hyperparameter a vector of K."""

    def __init__(self, model: nn.Module, lr: Tensor, momentum: Tensor, weight_decay: Tensor):
        self.k = len(lr)
        self.weights = list(model.parameters())
        self.lr, self.momentum, self.decay = (x[:, None] for x in (lr, momentum, weight_decay))
        self.velocity = [torch.zeros_like(weight) for weight in self.weights]
        self.first = True

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights; their gradients are gone afterwards."""
        for weight, velocity in zip(self.weights, self.velocity, strict=True):
            assert weight.grad is not None
            rows, speed = weight.data.view(self.k, -1), velocity.view(self.k, -1)
            gradient = weight.grad.reshape(self.k, -1) + self.decay * rows
            if self.first:
                speed.copy_(gradient)
            else:
                speed.mul_(self.momentum).add_(gradient)
            rows.sub_(self.lr * speed)
            weight.grad = None
        self.first = False

    def keep(self, model: nn.Module, members: list[int]) -> None:
        """Drop all members but these, which take this order, from the network and from here."""
        at, k, kept = torch.tensor(members), self.k, len(members)

        def cut(t: Tensor) -> Tensor:
            return t.reshape(k, -1)[at].reshape(kept * (t.shape[0] // k), *t.shape[1:])

        for module in model.modules():
            for name, weight in list(module._parameters.items()):
                if weight is not None:
                    module._parameters[name] = nn.Parameter(cut(weight.detach()).clone())
            for name, buffer in list(module._buffers.items()):
                if buffer is not None and buffer.dim():
                    module._buffers[name] = cut(buffer).clone()
            if isinstance(module, StackedConv2d):
                module.groups = 1 if module.shared else module.groups // k * kept
                module.k = kept
            elif isinstance(module, StackedLinear):
                module.k = kept
            elif isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                module.num_features = len(module.running_mean)
        self.velocity = [cut(velocity) for velocity in self.velocity]
        self.weights = list(model.parameters())
        self.lr, self.momentum, self.decay = (x[at] for x in (self.lr, self.momentum, self.decay))
        self.k = kept


def stacked_loss(logits: Tensor, labels: Tensor, k: int, smoothing: Tensor) -> Tensor:
    """Each member's mean cross-entropy, `(K,)`, with a label smoothing of its own."""
    scores = logits.view(len(labels), k, -1).float().log_softmax(2)
    at_label = scores.gather(2, labels[:, None, None].expand(-1, k, 1)).squeeze(2)
    return (1 - smoothing) * -at_label.mean(0) + smoothing * -scores.mean((0, 2))
