"""The analyses that `cnngrid explain` knows."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grid.errors import GridError

if TYPE_CHECKING:
    from PIL.Image import Image

    from analysis.tables.table_formats import Table
    from grid.explain.opened_trial import Subject


@dataclass(frozen=True)
class Options:
    """What to look at; None where the command said nothing."""

    layer: str | None = None
    image: int | None = None
    count: int | None = None


@dataclass(frozen=True)
class Analysis:
    """An analysis: `module:function` that makes it, what it shows, the options it takes."""

    make: str
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


def find_analysis(name: str, options: Options) -> Callable[[Subject, Options], Image | Table]:
    """Return the function of an analysis; raise `GridError` for an unknown name or option."""
    if name not in ANALYSES:
        close = difflib.get_close_matches(name, ANALYSES, n=1)
        hint = f" (closest: {close[0]})" if close else ""
        raise GridError(f"there is no analysis {name!r}{hint}; there are: {', '.join(ANALYSES)}")
    takes = ANALYSES[name].options
    for option, value in vars(options).items():
        if value is not None and option not in takes:
            raise GridError(
                f"{name} takes no --{option}; its options: {', '.join(takes) or 'none'}"
            )
    module, _, function = ANALYSES[name].make.partition(":")
    found: Callable[[Subject, Options], Image | Table]
    found = getattr(importlib.import_module(module), function)
    return found
