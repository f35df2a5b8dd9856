"""One contract for every change of training images: whole bytes, and the same after a resume."""

import io
from dataclasses import asdict
from typing import Any, get_args

import pytest
import torch

from cnncore.config import AugmentKind, TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.models import build_model
from cnncore.seeding import seed_everything
from cnncore.training.train import EpochResult, StepBoundary, start, train

CPU = torch.device("cpu")
TIMES = ("train_time_s", "eval_time_s", "train_images_per_s")
FACTORS = {"low": 0.5, "high": 1.5}
# An entry of `augment` for every kind.
EXAMPLES: dict[str, Any] = {
    "flip": "flip",
    "crop": "crop",
    "own": {"torchvision.transforms.v2:RandomRotation": {"degrees": 30}},
    "vertical_flip": "vertical_flip",
    "random_resized_crop": {"random_resized_crop": {"scale": [0.2, 1]}},
    "rotate": {"rotate": {"degrees": 30}},
    "translate": {"translate": {"fraction": 0.3}},
    "scale": {"scale": FACTORS},
    "brightness": {"brightness": FACTORS},
    "contrast": {"contrast": FACTORS},
    "saturation": {"saturation": FACTORS},
    "sharpness": {"sharpness": FACTORS},
    "color_jitter": {"color_jitter": {"brightness": 0.5, "contrast": 0.5, "hue": 0.3}},
    "grayscale": {"grayscale": {"p": 0.5}},
    "gaussian_blur": {"gaussian_blur": {"kernel": 3}},
    "solarize": "solarize",
    "posterize": {"posterize": {"bits": 2}},
    "trivial_augment": "trivial_augment",
    "rand_augment": {"rand_augment": {"n": 2, "magnitude": 15}},
    "erase": {"erase": {"size": 3}},
    "random_erasing": {"random_erasing": {"p": 0.7}},
}
# Digits are grey, so that these leave them as they are.
NEEDS_COLOUR = ("saturation", "grayscale")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    load_dataset("digits", folder)
    return folder


def begin(augment, data_dir, **changes):
    keys: dict[str, Any] = {
        "arch": "cnn3",
        "image_size": 32,
        "dataset": "digits",
        "optimizer": "sgd",
        "lr": 0.05,
        "weight_decay": 0,
        "epochs": 2,
        "limit_train": 60,
        "limit_test": 20,
        "batch_size": 16,
        "normalize": "half",
    }
    config = TrialConfig.model_validate({**keys, "augment": augment, **changes})
    splits = open_splits(config, load_dataset("digits", data_dir), CPU)
    seed_everything(3)
    model = build_model("cnn3", classes=10, image_size=32)
    return config, start(config, model, 5, CPU), splits


def results(config, state, splits):
    return [
        {key: value for key, value in asdict(event).items() if key not in TIMES}
        for event in train(state, splits, config, boundary_every_s=1e9)
        if isinstance(event, EpochResult)
    ]


def test_every_kind_has_an_example():
    kinds = {part.model_fields["kind"].default for part in get_args(AugmentKind)}
    assert kinds == set(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_trial_under_every_change_resumes_bit_for_bit(kind, data_dir):
    torch.set_num_threads(1)
    config, state, splits = begin([EXAMPLES[kind]], data_dir)
    assert [part.kind for part in config.augment] == [kind]
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config
    # At their own side, before the scaling to image_size.
    own_side = begin([EXAMPLES[kind]], data_dir, image_size=None)[2]
    plain = begin([], data_dir, image_size=None)[2]
    changed = False
    for (images, labels), (others, its_labels) in zip(
        own_side.train.batches(1, 1), plain.train.batches(1, 1), strict=True
    ):
        assert images.shape == others.shape
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(labels, its_labels)
        changed |= not torch.equal(images, others)
        pixels = (images * 0.5 + 0.5) * 255
        torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)  # whole bytes
        assert pixels.min() > -1e-3
        assert pixels.max() < 255 + 1e-3
    assert changed or kind in NEEDS_COLOUR

    expected = results(config, state, splits)
    weights = state.model.state_dict()
    _, state, splits = begin([EXAMPLES[kind]], data_dir)
    for event in train(state, splits, config, boundary_every_s=0.0):
        if isinstance(event, StepBoundary) and event.step == 2:
            break
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    config, state, splits = begin([EXAMPLES[kind]], data_dir)
    state.load_state_dict(torch.load(file, weights_only=True))
    assert results(config, state, splits) == expected
    assert all(
        torch.equal(value, weights[name]) for name, value in state.model.state_dict().items()
    )
