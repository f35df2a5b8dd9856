"""Splits, folds and their batches, and the quirks that change them."""

import os

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cnncore.config import TrialConfig
from cnncore.data import load_dataset, open_splits, stratified_split, stratified_subset
from cnncore.data.augment.mobilenet_crop import Window
from cnncore.data.stratify import stratified_fold

CPU = torch.device("cpu")
SCALE = {"low": 0.9, "high": 1.1}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return load_dataset("digits", tmp_path_factory.mktemp("data"))


def config(**keys):
    return TrialConfig(arch="cnn3", dataset="digits", optimizer="sgd", lr=0.1, epochs=1, **keys)


def test_splits_hold_every_image_once_and_keep_the_classes_shares():
    labels = np.random.default_rng(0).integers(0, 7, 1003)
    train, val = stratified_split(labels, 0.1, seed=5)
    assert sorted([*train, *val]) == list(range(1003))
    assert len(val) == 100
    shares = np.bincount(labels[val]) / np.bincount(labels)
    assert shares.min() > 0.09
    assert shares.max() < 0.11
    assert (stratified_split(labels, 0.1, seed=6)[1] != val).any()
    few = stratified_subset(train, labels, 70, seed=5)
    assert len(few) == 70
    assert set(few) <= set(train)
    assert np.ptp(np.bincount(labels[few])) <= 3


def test_folds_are_disjoint_stratified_and_cover_everything():
    labels = np.random.default_rng(0).integers(0, 7, 1003)
    parts = [stratified_fold(labels, fold, 5, seed=3) for fold in range(5)]
    assert sorted(np.concatenate([val for _, val in parts])) == list(range(1003))
    counts = np.stack([np.bincount(labels[val], minlength=7) for _, val in parts])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1
    for train, val in parts:
        assert sorted([*train, *val]) == list(range(1003))
    assert (stratified_fold(labels, 0, 5, seed=4)[1] != parts[0][1]).any()
    with pytest.raises(ValueError, match="fold must be 0 to 4, got 5"):
        stratified_fold(labels, 5, 5, seed=3)


def test_limits_apply_after_the_validation_split(digits):
    whole = open_splits(config(), digits, CPU)
    limited = open_splits(config(limit_train=100, limit_test=50), digits, CPU)
    np.testing.assert_array_equal(limited.val.indices, whole.val.indices)
    assert set(limited.train.indices) <= set(whole.train.indices)
    assert not set(whole.train.indices) & set(whole.val.indices)
    assert (len(limited.train), len(limited.test)) == (100, 50)


def test_an_epoch_gives_every_image_once_with_its_label(digits):
    splits = open_splits(config(batch_size=100, normalize="half"), digits, CPU)
    epoch_batches = [(x.clone(), y) for x, y in splits.train.batches(seed=1, epoch=1)]
    assert len(epoch_batches) == splits.train.steps
    assert len(epoch_batches[-1][0]) == len(splits.train) % 100 > 0
    images, labels = (
        torch.cat([x for x, _ in epoch_batches]),
        torch.cat([y for _, y in epoch_batches]),
    )
    assert epoch_batches[0][0].is_contiguous(memory_format=torch.channels_last)

    def rows(pixels, labels):
        pairs = zip(pixels, labels, strict=True)
        return sorted((image.tobytes(), int(label)) for image, label in pairs)

    pixels = ((images * 0.5 + 0.5) * 255).permute(0, 2, 3, 1).numpy()
    own = splits.train.indices
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-4)
    assert rows(pixels.round().astype(np.uint8), labels) == rows(
        digits.train_images[own], digits.train_labels[own]
    )

    rest = list(splits.train.batches(seed=1, epoch=1, first_step=len(epoch_batches) - 1))
    assert len(rest) == 1
    torch.testing.assert_close(rest[0][0], epoch_batches[-1][0], rtol=0, atol=0)
    first, _ = next(splits.train.batches(seed=1, epoch=2))
    assert not torch.equal(first, epoch_batches[0][0])


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 9])
def test_epochs_of_some_steps_go_on_through_the_passes(digits, steps):
    settings = {"batch_size": 48, "limit_train": 160, "augment": ("flip", "crop")}
    passes = open_splits(config(**settings), digits, CPU).train  # of 48, 48, 48 and 16 images
    epochs = open_splits(config(**settings, steps_per_epoch=steps), digits, CPU).train
    assert (passes.steps, epochs.steps, len(epochs)) == (4, steps, 160)

    def stream(split, first, last, first_step=0):
        numbers = range(first, last + 1)
        parts = (split.batches(7, n, first_step if n == first else 0) for n in numbers)
        return [(x.clone(), y) for part in parts for x, y in part]

    count = 4 * steps
    expected, got = stream(passes, 1, steps)[:count], stream(epochs, 1, 4)
    assert len(got) == count
    for (images, labels), (own_images, own_labels) in zip(got, expected, strict=True):
        assert torch.equal(images, own_images)
        assert torch.equal(labels, own_labels)
    for epoch in range(1, 5):
        seen = sum(len(labels) for _, labels in got[: epoch * steps])
        assert epochs.images_until(epoch) == seen
    rest = stream(epochs, 2, 4, steps - 1)
    assert len(rest) == count - 2 * steps + 1
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(rest[::-1], got[::-1], strict=False))


@pytest.mark.parametrize("size", [5, 13])
def test_evaluation_batches_are_normalised_and_resized(digits, size):
    splits = open_splits(config(image_size=size), digits, CPU)
    images = torch.cat([x.clone() for x, _ in splits.test.batches()])
    pixels = torch.from_numpy(digits.test_images.transpose(0, 3, 1, 2) / 255)
    mean, std = (torch.tensor(v)[:, None, None] for v in (digits.mean, digits.std))
    expected = F.interpolate(
        (pixels - mean) / std, size=(size, size), mode="bilinear", antialias=size < 8
    )
    torch.testing.assert_close(images, expected.float(), rtol=1e-4, atol=1e-5)
    labels = torch.cat([y for _, y in splits.test.batches()])
    np.testing.assert_array_equal(labels, digits.test_labels)


@pytest.mark.skipif("CNNGRID_DATA" not in os.environ, reason="CNNGRID_DATA is not set")
def test_cifar10_is_torchvisions():
    from torchvision.datasets import CIFAR10

    folder = os.environ["CNNGRID_DATA"]
    data = load_dataset("cifar10", folder)
    reference = CIFAR10(folder, train=False)
    np.testing.assert_array_equal(data.test_images, reference.data)
    np.testing.assert_array_equal(data.test_labels, reference.targets)
    assert list(data.class_names) == reference.classes
    assert data.train_images.shape == (50_000, 32, 32, 3)
    np.testing.assert_allclose(data.mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(data.std, [0.2470, 0.2435, 0.2616], atol=5e-5)


def test_no_training_batch_is_a_single_image(digits):
    split = open_splits(config(batch_size=33, limit_train=100), digits, CPU).train
    sizes = [len(labels) for _, labels in split.batches(seed=1, epoch=1)]
    assert sizes == [33, 33, 33]
    assert (len(split), split.steps) == (99, 3)
    assert [len(labels) for _, labels in split.batches(1, 1, first_step=2)] == [33]
    alone = open_splits(config(batch_size=1, limit_train=10), digits, CPU).train
    assert len(list(alone.batches(1, 1))) == 10


def everything(split):
    return torch.cat([images.clone() for images, _ in split.batches()])


def test_a_window_is_cut_out_of_the_enlarged_and_padded_image():
    images = torch.randn(40, 3, 20, 20)
    black = torch.tensor([-1.0, -2.0, -3.0])
    window = Window(60, black, 1, 2, CPU)
    windows = window(images, 20)
    for i, image in enumerate(images):
        enlarged = F.interpolate(image[None], size=(224, 224), mode="bilinear")[0]
        padded = black[:, None, None].repeat(1, 232, 232)
        padded[:, 4:228, 4:228] = enlarged
        top, left = window.corner[:, 20 + i].tolist()
        torch.testing.assert_close(
            windows[i], padded[:, top : top + 32, left : left + 32], rtol=1e-4, atol=1e-4
        )
    corners = Window(20_000, black, 1, 3, CPU).corner
    assert (corners.min().item(), corners.max().item()) == (0, 200)


def test_the_mobilenet_crop_applies_to_train_and_test_images(digits):
    odd = open_splits(
        config(quirk="hu-mobilenet-crop", augment=["flip"], image_size=32), digits, CPU
    )
    train, _ = next(odd.train.batches(seed=1, epoch=1))
    assert train.shape == (128, 3, 32, 32)
    # The window shows an eighth of a digit's side, so most windows are nearly uniform.
    plain = open_splits(config(image_size=32), digits, CPU)
    within = everything(odd.test).std((1, 2, 3)).median()
    assert within < 0.7 * everything(plain.test).std((1, 2, 3)).median()


@pytest.mark.parametrize(
    ("quirk", "augment"),
    [
        ("hu-random-test", ["crop", "flip"]),
        ("kumar-augmented-eval", ["flip", {"rotate": {"degrees": 2}}, {"scale": SCALE}]),
    ],
)
def test_quirks_that_augment_the_evaluation_are_equal_in_every_epoch(digits, quirk, augment):
    odd = open_splits(config(quirk=quirk, augment=augment), digits, CPU)
    plain = open_splits(config(augment=augment), digits, CPU)
    for split, usual in ((odd.val, plain.val), (odd.test, plain.test)):
        first, again, untouched = everything(split), everything(split), everything(usual)
        assert torch.equal(first, again)
        assert not torch.equal(first, untouched)
        torch.testing.assert_close(first.mean(), untouched.mean(), atol=0.1, rtol=0)
    train, usual_train = (next(s.train.batches(1, 1))[0].clone() for s in (odd, plain))
    assert torch.equal(train, usual_train)


def test_a_random_test_image_is_mirrored_at_any_position_in_its_batch(digits):
    odd = open_splits(config(quirk="hu-random-test", augment=["flip"]), digits, CPU)
    untouched = everything(open_splits(config(), digits, CPU).test)
    pairs = zip(everything(odd.test), untouched.flip(3), strict=True)
    mirrored = np.array([torch.equal(image, mirror) for image, mirror in pairs])
    assert mirrored.mean() == pytest.approx(0.5, abs=0.1)
    assert abs(np.corrcoef(mirrored, np.arange(len(mirrored)))[0, 1]) < 0.15


def test_simpsons_scale_multiplies_the_training_images_alone(digits):
    odd = open_splits(config(quirk="simpson-scale"), digits, CPU)
    plain = open_splits(config(), digits, CPU)
    train, usual = (next(s.train.batches(1, 1))[0].clone() for s in (odd, plain))
    torch.testing.assert_close(train, 255 * usual, rtol=1e-4, atol=1e-3)
    assert torch.equal(everything(odd.val), everything(plain.val))
