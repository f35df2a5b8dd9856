"""Seconds of a config's training steps and evaluation, timed for a moment on images of noise."""

from __future__ import annotations

from statistics import median

import torch

from cnncore.config import TrialConfig, network_options
from cnncore.data import open_splits
from cnncore.measure.evaluate import predict
from cnncore.models import build_model
from cnncore.models.classifier_head import freeze_features
from cnncore.training.speed.inputs import noise
from cnncore.training.speed.machine import computed_s
from cnncore.training.train import EpochResult, start, train

# The first steps are slower and do not count; others are timed for so long, in seconds.
WARM_UP, FEWEST_STEPS, STEPS_S = 2, 3, 1.0
# Most images of the timed epoch; a larger batch has as many as it needs for the fewest steps.
IMAGES = 4096


def measure_steps(
    config: TrialConfig, classes: int, stored_side: int, device: torch.device
) -> tuple[float, float]:
    """Return the seconds of training on one image and of evaluating one, with a fresh network.

    `stored_side` is the side of the decoded images. Computes with the threads that PyTorch has in
    this process. Pre-trained weights are not loaded: they change no speed. Raises what the network
    or the user's own code raises.
    """
    steps = WARM_UP + FEWEST_STEPS
    count = max(min(IMAGES, 20 * config.batch_size), steps * config.batch_size, classes)
    changes = {
        "epochs": 1,
        "val_fraction": 1 / (count + 1),
        "select": "last",
        **dict.fromkeys(
            ("limit_train", "limit_test", "labels", "class_weights", "sampling", "objective")
        ),
    }
    short = config.model_copy(update=changes)
    splits = open_splits(short, noise(count + 1, stored_side, classes), device)
    model = build_model(
        config.arch,
        classes=classes,
        image_size=config.image_size or stored_side,
        **network_options(config),
    )
    if config.freeze:
        freeze_features(model)
    state = start(short, model, 0, device)
    seconds: list[float] = []
    epoch_s = 0.0
    before = computed_s(device)
    for event in train(state, splits, short, boundary_every_s=0.0):
        if isinstance(event, EpochResult):
            epoch_s = event.train_time_s
            break
        seconds.append(computed_s(device) - before)
        timed = seconds[WARM_UP:]
        if len(timed) >= FEWEST_STEPS and sum(timed) > STEPS_S:
            break
        before = computed_s(device)
    timed = seconds[WARM_UP:]
    # An epoch of the user's own tells only its whole time.
    train_s = median(timed) / config.batch_size if timed else epoch_s / len(splits.train)
    evaluated = []
    for _ in range(2):
        before = computed_s(device)
        predict(model, [next(splits.test.batches())], precision=config.precision, device=device)
        evaluated.append(computed_s(device) - before)
    return train_s, min(evaluated) / min(splits.test.batch_size, len(splits.test))
