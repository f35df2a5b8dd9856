"""Attribution of a prediction to pixels by three methods of Captum, with a sanity check.

Integrated gradients (arXiv 1703.01365), occlusion by a sliding window (arXiv 1311.2901) and
Shapley values sampled over square blocks (arXiv 1705.07874) share one baseline: zeros of the
network's input, the mean colour of the normalisation. The sanity check (arXiv 1810.03292) repeats
them for a network with fresh weights: a method whose maps stay similar shows the image, not the
network's knowledge.
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

from cnncore.explain.image_grid import Pixels, Tile, signed, tile_grid
from cnncore.measure.evaluate import eval_mode

Map = NDArray[np.float64]

# Blocks along each side of the image, for occlusion and Shapley values.
BLOCKS = 8
IG_STEPS = 50
PERMUTATIONS = 25
# Changed images in one forward pass.
BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class Attribution:
    """One method's maps `(height, width)` for a class of one image; positive pixels speak for it.

    One map is of the trained network, the other of the same network with fresh weights.
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
    """Compute every method's maps for class `target` of one image, `inputs` `(1, 3, side, side)`.

    `seed` determines the sampling of Shapley values; torch's random state stays unchanged.
    """
    attributions = []
    for method, attribution in METHODS.items():
        maps = []
        for model in (trained, fresh):
            devices = [inputs.device] if inputs.device.type == "cuda" else []
            with eval_mode(model), torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed)
                values = attribution(model, inputs, target)
            maps.append(values.detach().sum(1)[0].double().cpu().numpy())
        attributions.append(Attribution(method, *maps))
    return attributions


@torch.inference_mode()
def predicted_class(model: nn.Module, inputs: Tensor) -> int:
    """Return the class of the largest logit of one image."""
    with eval_mode(model):
        return int(model(inputs).argmax(1))


def _integrated_gradients(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    values: Tensor = IntegratedGradients(model).attribute(
        inputs, target=target, n_steps=IG_STEPS, internal_batch_size=BATCH_SIZE
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
        perturbations_per_eval=BATCH_SIZE,
    )
    return values[:, :1]  # channels are hidden together and share one value


def _shapley(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    side = inputs.shape[-1]
    blocks = min(BLOCKS, side)
    block_of_pixel = torch.arange(side, device=inputs.device) * blocks // side
    block_numbers = block_of_pixel[:, None] * blocks + block_of_pixel
    values: Tensor = ShapleyValueSampling(model).attribute(
        inputs,
        target=target,
        feature_mask=block_numbers.expand(inputs.shape).contiguous(),
        n_samples=PERMUTATIONS,
        perturbations_per_eval=BATCH_SIZE,
    )
    return values[:, :1]  # channels are hidden together and share one value


METHODS: dict[str, Callable[[nn.Module, Tensor, int], Tensor]] = {
    "integrated gradients": _integrated_gradients,
    "occlusion": _occlusion,
    "Shapley sampling": _shapley,
}


def rank_correlation(first: Map, second: Map) -> float:
    """Return Spearman's coefficient; ties share their mean rank; 0 if one map is constant."""
    first_ranks, second_ranks = _ranks(first.ravel()), _ranks(second.ravel())
    if min(np.ptp(first_ranks), np.ptp(second_ranks)) == 0:
        return 0.0
    return float(np.corrcoef(first_ranks, second_ranks)[0, 1])


def _ranks(values: Map) -> Map:
    _, indices, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(mean_ranks[indices])


def attribution_grid(
    images: Sequence[tuple[Pixels, tuple[str, str], Sequence[Attribution]]], about: str
) -> Image:
    """Draw a row per image: the image with two lines of text, then each method's two maps."""
    tiles = []
    for image, lines, attributions in images:
        tiles.append(Tile(image, lines))
        for one in attributions:
            tiles.append(Tile(signed(one.trained), ("trained",)))
            tiles.append(
                Tile(signed(one.fresh), ("fresh weights", f"rank corr. {one.similarity:.2f}"))
            )
    labels = ["image", *(label for method in METHODS for label in (method, ""))]
    note = (
        f"{about}. Vermilion speaks for the predicted class, blue against it; each map has its "
        "own range. The rank correlation with the same network's map under fresh weights should "
        "be near 0."
    )
    return tile_grid(tiles, len(labels), title="Attributions", note=note, column_labels=labels)
