"""The layers of a network that make maps, by name, and what they make of an image."""

from __future__ import annotations

import difflib

import torch
from torch import Tensor, nn

from cnncore.measure.evaluate import eval_mode


def layer_maps(model: nn.Module, inputs: Tensor, layer: str | None) -> tuple[str, Tensor]:
    """A layer's name and its maps of `inputs`, `(batch, channels, height, width)`.

    `layer` is the name of a module without children, `None` the first convolution. The maps are
    its own output, before whatever follows; where it is used more than once, that of the first
    time. Raises `ValueError` for a name that is not a layer with maps.
    """
    maps = _all_maps(model, inputs)
    kinds = {name: type(model.get_submodule(name)).__name__ for name in maps}
    if layer is None:
        layer = next((name for name, kind in kinds.items() if kind == "Conv2d"), "")
    if layer not in maps:
        close = difflib.get_close_matches(layer, maps, n=1)
        hint = f" (closest: {close[0]})" if close else ""
        known = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise ValueError(f"no layer {layer!r} with maps{hint}; there are: {known}")
    return layer, maps[layer]


def _all_maps(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Copies of the layers' maps, because an activation that works in place would change them."""
    names = {module: name for name, module in model.named_modules() if not any(module.children())}
    maps: dict[str, Tensor] = {}

    def keep(module: nn.Module, _: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            maps.setdefault(names[module], output.clone())

    handles = [module.register_forward_hook(keep) for module in names]
    try:
        with eval_mode(model), torch.inference_mode():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return maps
