"""The maps that a layer makes of one image."""

from __future__ import annotations

from math import ceil, sqrt

from PIL.Image import Image
from torch import Tensor, nn

from cnncore.explain.layers import layer_maps
from cnncore.explain.picture import Tile, grey, tile_grid


def feature_map_grid(
    model: nn.Module, raw: Tensor, inputs: Tensor, layer: str | None, count: int, about: str
) -> Image:
    """The first `count` maps of a layer, each from its lowest value, black, to its highest, white.

    `raw` is the image, uint8 `(side, side, 3)`, shown first; `inputs` is what the network gets for
    it, `(1, 3, image_size, image_size)`. Raises `ValueError` for an unknown layer.
    """
    name, maps = layer_maps(model, inputs, layer)
    channels, height, width = maps.shape[1:]
    shown = maps[0, :count].float().cpu().numpy()
    tiles = [Tile(raw.numpy(), ("input",))]
    tiles += [
        Tile(grey(one), (f"map {i}", f"{one.min():.2g} to {one.max():.2g}"))
        for i, one in enumerate(shown)
    ]
    columns = max(4, ceil(sqrt(len(tiles))))
    title = f"{len(shown)} of {channels} maps of layer {name}, {height}x{width}"
    kind = type(model.get_submodule(name)).__name__
    note = f"{about}. The output of the {kind} itself, before what follows it; black to white is "
    note += "each map's own range."
    return tile_grid(tiles, columns, title=title, note=note)
