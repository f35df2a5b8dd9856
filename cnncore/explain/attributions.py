"""Which pixels speak for a prediction, by three methods of Captum, and whether they depend on it.

Integrated gradients (arXiv 1703.01365), occlusion by a sliding window (arXiv 1311.2901) and
Shapley values sampled over square blocks (arXiv 1705.07874), all against the same baseline: zeros
of the network's input, the mean colour of the normalisation. The sanity check of arXiv 1810.03292:
the same for a network with fresh weights; a method whose maps stay alike shows the image, not what
the network learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients, Occlusion, ShapleyValueSampling
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor, nn

from cnncore.explain.picture import Pixels, Tile, signed, tile_grid
from cnncore.measure.evaluate import eval_mode

Map = NDArray[np.float64]

# Blocks along each side of the image, for occlusion and Shapley values.
BLOCKS = 8
IG_STEPS = 50
PERMUTATIONS = 25
# Changed images in one forward pass.
AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Attribution:
    """One method's maps `(height, width)` for a class of one image, positive where pixels speak
    for it: of the trained network, and of the same one with fresh weights.
    """

    method: str
    trained: Map
    fresh: Map

    @property
    def similarity(self) -> float:
        """Spearman's rank correlation of the two maps' absolute values, -1 to 1."""
        return rank_correlation(np.abs(self.trained), np.abs(self.fresh))


def attribute(
    trained: nn.Module, fresh: nn.Module, inputs: Tensor, target: int, seed: int
) -> list[Attribution]:
    """Every method's maps for class `target` of one image, `inputs` `(1, 3, side, side)`.

    `seed` makes the order in which Shapley values are sampled; torch's random state stays.
    """
    found = []
    for method, attribute in METHODS.items():
        maps = []
        for model in (trained, fresh):
            devices = [inputs.device] if inputs.device.type == "cuda" else []
            with eval_mode(model), torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed)
                values = attribute(model, inputs, target)
            maps.append(values.detach().sum(1)[0].double().cpu().numpy())
        found.append(Attribution(method, *maps))
    return found


@torch.inference_mode()
def predicted_class(model: nn.Module, inputs: Tensor) -> int:
    """The class of the largest logit of one image."""
    with eval_mode(model):
        return int(model(inputs).argmax(1))


def _integrated_gradients(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    values: Tensor = IntegratedGradients(model).attribute(
        inputs, target=target, n_steps=IG_STEPS, internal_batch_size=AT_ONCE
    )
    return values


def _occlusion(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    window = max(1, inputs.shape[-1] // BLOCKS)
    stride = max(1, window // 2)
    values: Tensor = Occlusion(model).attribute(
        inputs,
        sliding_window_shapes=(inputs.shape[1], window, window),
        strides=(inputs.shape[1], stride, stride),
        target=target,
        perturbations_per_eval=AT_ONCE,
    )
    return values[:, :1]  # what is hidden together has one value, given to every channel


def _shapley(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    side = inputs.shape[-1]
    blocks = min(BLOCKS, side)
    along = torch.arange(side, device=inputs.device) * blocks // side
    numbers = along[:, None] * blocks + along
    values: Tensor = ShapleyValueSampling(model).attribute(
        inputs,
        target=target,
        feature_mask=numbers.expand(inputs.shape).contiguous(),
        n_samples=PERMUTATIONS,
        perturbations_per_eval=AT_ONCE,
    )
    return values[:, :1]  # what is hidden together has one value, given to every channel


METHODS: dict[str, Callable[[nn.Module, Tensor, int], Tensor]] = {
    "integrated gradients": _integrated_gradients,
    "occlusion": _occlusion,
    "Shapley sampling": _shapley,
}


def rank_correlation(first: Map, second: Map) -> float:
    """Spearman's coefficient, equal values sharing their mean rank; 0 where one map is constant."""
    one, other = _ranks(first.ravel()), _ranks(second.ravel())
    if min(np.ptp(one), np.ptp(other)) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: Map) -> Map:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(mean_ranks[places])


def attribution_grid(
    images: Sequence[tuple[Pixels, tuple[str, str], Sequence[Attribution]]], about: str
) -> Image:
    """A row for each image: itself with two lines of text, then each method's two maps."""
    tiles = []
    for image, lines, found in images:
        tiles.append(Tile(image, lines))
        for one in found:
            tiles.append(Tile(signed(one.trained), ("trained",)))
            tiles.append(
                Tile(signed(one.fresh), ("fresh weights", f"rank corr. {one.similarity:.2f}"))
            )
    heads = ["image", *(head for method in METHODS for head in (method, ""))]
    note = (
        f"{about}. Vermilion speaks for the predicted class, blue against it; each map has its "
        "own range. The rank correlation with the same network's map under fresh weights should "
        "be near 0."
    )
    return tile_grid(tiles, len(heads), title="Attributions", note=note, column_labels=heads)
