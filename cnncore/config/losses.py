"""Losses, as the keys `loss` and `class_weights` give them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from cnncore.config.values import (
    ConfigPart,
    FunctionName,
    NonNegativeFloat,
    PositiveFloat,
    with_kind,
)


class CrossEntropy(ConfigPart):
    """Cross-entropy of the softmax; resolves to null."""

    kind: Literal["cross_entropy"] = "cross_entropy"


class BinaryCrossEntropy(ConfigPart):
    """Cross-entropy of one sigmoid per class, each class against the rest, mean over the classes.

    "ResNet strikes back" (arXiv 2110.00476) trains with it; the mean is that of PyTorch's
    `binary_cross_entropy_with_logits` and of timm's `BinaryCrossEntropy`.
    """

    kind: Literal["binary_cross_entropy"] = "binary_cross_entropy"


class Focal(ConfigPart):
    """Focal loss of the softmax, `(1 - p) ** gamma` times the cross-entropy (arXiv 1708.02002).

    p is the probability of the image's class, 2 the paper's best `gamma`. With `gamma` 0 it is the
    cross-entropy, and resolves to null.
    """

    kind: Literal["focal"] = "focal"
    gamma: Annotated[NonNegativeFloat, Field(le=100.0)] = 2.0


LossKind = CrossEntropy | BinaryCrossEntropy | Focal
# The tag of a loss of the user's own; messages list it among the known names.
OWN_LOSS = "package.module:function"


def _loss_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return OWN_LOSS
    tag = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return tag if isinstance(tag, str) else None


def _read_loss(value: Any) -> Any:
    """Leave `package.module:function` as it is; read other names as those of a kind."""
    return value if isinstance(value, str) and ":" in value else with_kind(value)


Loss = Annotated[
    Annotated[
        Annotated[CrossEntropy, Tag("cross_entropy")]
        | Annotated[BinaryCrossEntropy, Tag("binary_cross_entropy")]
        | Annotated[Focal, Tag("focal")]
        | Annotated[FunctionName, Tag(OWN_LOSS)],
        Discriminator(_loss_tag),
    ],
    BeforeValidator(_read_loss),
]

# Tags of the forms in which `class_weights` is written.
WEIGHTS_NAME, WEIGHTS_LIST, WEIGHTS_MAPPING = (
    f"class_weights_{form}" for form in ("name", "list", "mapping")
)


def _weights_tag(value: Any) -> str:
    if isinstance(value, dict):
        return WEIGHTS_MAPPING
    return WEIGHTS_LIST if isinstance(value, (list, tuple)) else WEIGHTS_NAME


ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag(WEIGHTS_NAME)]
    | Annotated[tuple[PositiveFloat, ...], Field(min_length=1), Tag(WEIGHTS_LIST)]
    | Annotated[dict[str, PositiveFloat], Field(min_length=1), Tag(WEIGHTS_MAPPING)],
    Discriminator(_weights_tag),
]
