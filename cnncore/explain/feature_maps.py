"""Feature maps: the output of a layer for one image."""

from __future__ import annotations

from math import ceil, sqrt

import torch
from PIL.Image import Image
from torch import Tensor, nn

from cnncore.explain.image_grid import Tile, grey, tile_grid
from cnncore.measure.evaluate import eval_mode
from cnncore.spelling import closest_hint


def feature_map_grid(
    model: nn.Module, raw: Tensor, inputs: Tensor, layer: str | None, count: int, about: str
) -> Image:
    """Draw the first `count` maps of a layer, each from black, its lowest value, to white.

    `raw` is the image, uint8 `(side, side, 3)`, drawn first; `inputs` is the network's input for
    it, `(1, 3, image_size, image_size)`. Raises `ValueError` for an unknown layer.
    """
    name, maps = layer_maps(model, inputs, layer)
    channels, height, width = maps.shape[1:]
    first_maps = maps[0, :count].float().cpu().numpy()
    tiles = [Tile(raw.numpy(), ("input",))]
    tiles += [
        Tile(grey(one), (f"map {i}", f"{one.min():.2g} to {one.max():.2g}"))
        for i, one in enumerate(first_maps)
    ]
    columns = max(4, ceil(sqrt(len(tiles))))
    title = f"{len(first_maps)} of {channels} maps of layer {name}, {height}x{width}"
    kind = type(model.get_submodule(name)).__name__
    note = f"{about}. The output of the {kind} itself, before what follows it; black to white is "
    note += "each map's own range."
    return tile_grid(tiles, columns, title=title, note=note)


def layer_maps(model: nn.Module, inputs: Tensor, layer: str | None) -> tuple[str, Tensor]:
    """Return a layer's name and its maps of `inputs`, `(batch, channels, height, width)`.

    `layer` is the name of a module without children; None means the first convolution. The maps
    are its own output, before the next layer; if it is used more than once, its first output.
    Raises `ValueError` if the name is not a layer with maps.
    """
    maps = _all_maps(model, inputs)
    kinds = {name: type(model.get_submodule(name)).__name__ for name in maps}
    if layer is None:
        layer = next((name for name, kind in kinds.items() if kind == "Conv2d"), "")
    if layer not in maps:
        hint = closest_hint(layer, maps)
        known = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise ValueError(f"no layer {layer!r} with maps{hint}; there are: {known}")
    return layer, maps[layer]


def _all_maps(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Return copies of the layers' maps, because an in-place activation would change them."""
    names = {module: name for name, module in model.named_modules() if not any(module.children())}
    maps: dict[str, Tensor] = {}

    def store(module: nn.Module, _: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            maps.setdefault(names[module], output.clone())

    handles = [module.register_forward_hook(store) for module in names]
    try:
        with eval_mode(model), torch.inference_mode():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return maps
