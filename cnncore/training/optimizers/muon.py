"""Muon for convolutional networks: `torch.optim.Muon` on kernels, AdamW on everything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnncore.config.optimizers import MuonOptions
from cnncore.models.classifier_head import AUXILIARY, HEADS


class Muon(torch.optim.Optimizer):
    """Muon on the weights of hidden layers, AdamW on classifiers, biases, norms and all others.

    Muon (Jordan 2024, kellerjordan.github.io/posts/muon) makes the update of a matrix orthogonal. A
    kernel counts as the matrix (outputs, inputs * height * width); the order of its columns, which
    is that of the kernel's memory, changes no update beyond rounding. Weights are not normalised.
    AdamW's rate is `adamw_ratio` times Muon's at every step; both decay their weights apart from
    the gradient, by rate times `weight_decay`.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        model: nn.Module,
        options: MuonOptions,
        *,
        lr: float,
        momentum: float,
        nesterov: bool,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        hidden = {id(weight) for weight in hidden_weights(model)}
        split: list[dict[str, Any]] = []
        for group in groups:
            for is_hidden, factor in ((True, 1.0), (False, options.adamw_ratio)):
                weights = [w for w in group["params"] if (id(w) in hidden) == is_hidden]
                if weights:
                    split.append({**group, "params": weights, "lr_factor": factor})
                    split[-1].update(hidden=is_hidden, lr=lr * factor)
        if not any(group["hidden"] for group in split):
            raise ValueError(
                "muon trains the weights of hidden layers, and none of them is trainable; use adamw"
            )
        super().__init__(split, {"lr": lr, "weight_decay": weight_decay})
        # Leaves of their own over the memory of the kernels.
        self._matrices = {
            weight: nn.Parameter(as_matrix(weight.detach(), weight))
            for group in self.param_groups
            if group["hidden"]
            for weight in group["params"]
        }
        self._muon = torch.optim.Muon(
            [self._inner_group(group) for group in self.param_groups if group["hidden"]],
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            ns_coefficients=options.ns_coefficients,
            eps=options.eps,
            ns_steps=options.ns_steps,
            adjust_lr_fn=options.adjust_lr_fn,
        )
        others = [self._inner_group(group) for group in self.param_groups if not group["hidden"]]
        self._adamw = (
            torch.optim.AdamW(
                others, betas=betas, eps=options.adamw_eps, weight_decay=weight_decay, fused=True
            )
            if others
            else None
        )

    def _inner_group(self, group: dict[str, Any]) -> dict[str, Any]:
        weights = [self._matrices.get(weight, weight) for weight in group["params"]]
        return {"params": weights, "lr": group["lr"], "weight_decay": group["weight_decay"]}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # returns no loss
        """Take one step of both optimizers, each group at the rate that it has now."""
        assert closure is None
        inner = {True: iter(self._muon.param_groups)}
        inner[False] = iter(self._adamw.param_groups if self._adamw else [])
        for group in self.param_groups:
            next(inner[group["hidden"]])["lr"] = group["lr"]
        for weight, matrix in self._matrices.items():
            if matrix.data_ptr() != weight.data_ptr():  # the network's weights were replaced
                matrix.data = as_matrix(weight.detach(), weight)
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad, weight)
        self._muon.step()  # type: ignore[no-untyped-call]  # torch has no types here
        if self._adamw:
            self._adamw.step()
        for matrix in self._matrices.values():
            matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both optimizers."""
        return {
            "muon": self._muon.state_dict(),
            "adamw": self._adamw.state_dict() if self._adamw else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states of both optimizers."""
        self._muon.load_state_dict(state_dict["muon"])
        if self._adamw:
            self._adamw.load_state_dict(state_dict["adamw"])


def as_matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return a kernel, or its gradient, as a matrix with a row per output.

    Columns are in the order of the memory of `weight`, so that its own matrix is a view.
    """
    if weight.is_contiguous():
        return tensor.reshape(len(tensor), -1)
    return tensor.movedim(1, -1).reshape(len(tensor), -1)


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of convolutions, dense layers and attention but for the classifiers'."""
    last = {id(layer.weight) for layer in classifiers(model)}
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        weight = None
        if isinstance(module, _LAYERS):
            weight = module.weight
        elif isinstance(module, nn.MultiheadAttention):
            weight = module.in_proj_weight
        if isinstance(weight, nn.Parameter) and id(weight) not in last:
            found[id(weight)] = weight
    return list(found.values())


def classifiers(model: nn.Module) -> list[Any]:
    """Return the layers that give logits: the last of the head and of each auxiliary head.

    A network without a child `classifier` or `fc` has its last layer, in the order of its modules,
    as classifier.
    """
    children = dict(model.named_children())
    heads = [children[name] for name in (*HEADS, *AUXILIARY) if name in children]
    if not any(name in children for name in HEADS):
        heads.append(model)
    layers = ([m for m in head.modules() if isinstance(m, _LAYERS)] for head in heads)
    return [found[-1] for found in layers if found]


_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
