"""The three splits of a trial: train, val, test."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnncore.config import QUIRK_AUGMENT, MeanStd, TrialConfig
from cnncore.data.arrays import Labels
from cnncore.data.augment.own_transform import has_own
from cnncore.data.batches import EvalSplit, EvalView, Normalization, TrainSplit
from cnncore.data.cache import ImageData
from cnncore.data.errors import DataError
from cnncore.data.resident import split_images
from cnncore.data.split_indices import split_indices
from cnncore.data.stratify import Indices
from cnncore.seeding import derive_seed

# torchvision's constants for networks trained on ImageNet.
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Splits:
    """The splits of a trial: `train` trains, `val` selects, `test` is read once, at the end.

    `val` is empty under `val_fraction: 0`.
    """

    train: TrainSplit
    val: EvalSplit
    test: EvalSplit
    class_names: tuple[str, ...]


def open_splits(
    config: TrialConfig,
    data: ImageData,
    device: torch.device,
    fold: tuple[int, int] | None = None,
    gpu_share: float = 1.0,
) -> Splits:
    """Return the splits of a config (`split_indices`), with their batches on `device`.

    `image_size` defaults to that of the data. Evaluation batches are as large as suits the trial's
    share of a GPU. Raises `DataError` if classes are to be drawn equally
    often and one of them has no image.
    """
    indices = split_indices(config, data, fold)
    if config.sampling == "balanced":
        own = data.train_labels[indices.train]
        if absent := set(range(len(data.class_names))) - set(own.tolist()):
            raise DataError(
                f"sampling: balanced needs an image of each class, but {data.name} has none of "
                f"{data.class_names[min(absent)]} to train on"
            )
    # Transforms of the user's run on the CPU.
    place = torch.device("cpu") if has_own(config.augment) else device
    train_images = split_images(data, "train", place, config.enhance)
    test_images = split_images(data, "test", device, config.enhance)
    size = config.image_size or data.train_images.shape[1]
    normalization = _normalization(config, data)
    window = config.quirk == "hu-mobilenet-crop"
    eval_augment = config.augment if config.quirk in QUIRK_AUGMENT else ()

    def eval_split(name: str, images: Tensor, labels: Labels, own: Indices) -> EvalSplit:
        return EvalSplit(
            images,
            labels,
            own,
            size,
            normalization,
            device,
            augment=eval_augment,
            window=window,
            seed=derive_seed(config.split_seed, name),
            view=EvalView(config.eval_crop, mirror=config.tta == "flip"),
            gpu_share=gpu_share,
        )

    return Splits(
        train=TrainSplit(
            train_images,
            data.train_labels,
            indices.train,
            config.augment,
            config.batch_size,
            size,
            _scaled(normalization, 255) if config.quirk == "simpson-scale" else normalization,
            device,
            window=window,
            balanced=config.sampling == "balanced",
            steps_per_epoch=config.steps_per_epoch,
        ),
        val=eval_split("val", train_images, data.train_labels, indices.val),
        test=eval_split("test", test_images, data.test_labels, indices.test),
        class_names=data.class_names,
    )


def _scaled(normalization: Normalization, factor: float) -> Normalization:
    """Return the normalization whose values are `factor` times as large."""
    red, green, blue = normalization.std
    return Normalization(normalization.mean, (red / factor, green / factor, blue / factor))


def _normalization(config: TrialConfig, data: ImageData) -> Normalization:
    if isinstance(config.normalize, MeanStd):
        return Normalization(config.normalize.mean, config.normalize.std)
    if config.normalize == "dataset":
        return Normalization(data.mean, data.std)
    return IMAGENET if config.normalize == "imagenet" else HALF
