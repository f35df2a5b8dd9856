"""The analyses that `cnngrid explain` knows."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnncore.spelling import closest_hint
from grid.errors import GridError

if TYPE_CHECKING:
    from PIL.Image import Image

    from analysis.tables.table_formats import Table
    from grid.explain.opened_trial import OpenedTrial

    AnalysisFunction = Callable[[OpenedTrial, "Options"], Image | Table]


@dataclass(frozen=True)
class Options:
    """Options of an analysis; None stands for an option that was not given."""

    layer: str | None = None
    # Number of a test image, from 0.
    image: int | None = None
    # Largest number of images, rows or maps.
    count: int | None = None


@dataclass(frozen=True)
class Analysis:
    """An analysis: its function as `module:function`, its meaning, the options it accepts."""

    function: str
    meaning: str
    options: tuple[str, ...] = ()


ANALYSES: dict[str, Analysis] = {
    "samples": Analysis(
        "grid.explain.analyses:samples",
        "validation images of every class, a class a row", ("count",)
    ),
    "predictions": Analysis(
        "grid.explain.analyses:predictions",
        "test images with true class, predicted class, confidence",
        ("count",),
    ),
    "errors": Analysis(
        "grid.explain.analyses:errors", "misclassified test images, the most confident first",
        ("count",),
    ),
    "feature-maps": Analysis(
        "grid.explain.analyses:feature_maps", "what a layer makes of a test image",
        ("layer", "image", "count"),
    ),
    "attributions": Analysis(
        "grid.explain.analyses:attributions",
        "which pixels speak for a prediction, by three methods, checked against fresh weights",
        ("image", "count"),
    ),
    "receptive-field": Analysis(
        "grid.explain.analyses:receptive_field", "how much of the image each layer's elements see"
    ),
    "separable-cost": Analysis(
        "grid.explain.analyses:separable_cost",
        "depthwise-separable blocks: multiply-accumulates counted and by 1/N + 1/DK^2",
    ),
    "enhancement": Analysis(
        "grid.explain.analyses:enhancement",
        "errors that brightness, contrast and sharpness repair, and right answers they break; "
        "also stored as the table enhancement",
    ),
}  # fmt: skip


def find_analysis(name: str, options: Options) -> AnalysisFunction:
    """Return the function of an analysis; raise `GridError` for an unknown name or option."""
    if name not in ANALYSES:
        hint = closest_hint(name, ANALYSES)
        raise GridError(f"there is no analysis {name!r}{hint}; there are: {', '.join(ANALYSES)}")
    analysis = ANALYSES[name]
    for option, value in vars(options).items():
        if value is not None and option not in analysis.options:
            raise GridError(
                f"{name} takes no --{option}; its options: {', '.join(analysis.options) or 'none'}"
            )
    module, _, attribute = analysis.function.partition(":")
    function: AnalysisFunction = getattr(importlib.import_module(module), attribute)
    return function
