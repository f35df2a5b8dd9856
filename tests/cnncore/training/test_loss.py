"""Losses against PyTorch's and against their formulas, and every one of them resumed."""

import math
import sys
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from cnncore.checkpoint import load_checkpoint, save_checkpoint
from cnncore.config import TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.data.augment.mixing import Mix
from cnncore.data.batches import balanced_draw
from cnncore.seeding import seed_everything
from cnncore.training.loss import build_loss
from cnncore.training.train import EpochResult, StepBoundary, start, train

CPU = torch.device("cpu")
OWN = """
from torch.nn import functional as F

def halved(logits, labels):
    return 0.5 * F.cross_entropy(logits, labels, reduction="none")

def mean(logits, labels):
    return F.cross_entropy(logits, labels)
"""
LOSSES: dict[str, Any] = {
    "cross_entropy": "cross_entropy",
    "binary_cross_entropy": "binary_cross_entropy",
    "focal": {"focal": {"gamma": 2.0}},
    "own": "own_losses:halved",
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    load_dataset("digits", folder)
    return folder


@pytest.fixture(autouse=True)
def own_losses(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "own_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("own_losses", None)


def make_config(**keys):
    defaults: dict[str, Any] = {
        "arch": "small",
        "dataset": "digits",
        "optimizer": "sgd",
        "lr": 0.05,
        "epochs": 1,
        "limit_train": 32,
        "batch_size": 16,
    }
    return TrialConfig(**(defaults | keys))


def some_splits(labels, names=("a", "b", "c", "d")):
    """Stand in for splits of which a loss needs the labels and the names alone."""
    train_split = SimpleNamespace(labels=np.array(labels))
    return SimpleNamespace(train=train_split, class_names=tuple(names))


def loss_and_gradient(config, logits, labels, mixed=None, splits=None):
    logits = logits.clone().requires_grad_()
    loss = build_loss(config, splits or some_splits([0, 1, 2, 3]), CPU)(logits, labels, mixed)
    loss.backward()
    return loss.detach(), logits.grad


def references(weight):
    """Return the mean loss of each name as PyTorch or its paper gives it."""

    def weighted(each, labels):
        own = weight[labels] if weight is not None else torch.ones(len(labels)).double()
        return (own * each).sum() / own.sum()

    def one_against_rest(x, y):
        targets = F.one_hot(y, x.shape[1]).double()
        return weighted(F.binary_cross_entropy_with_logits(x, targets, reduction="none").mean(1), y)

    def focal(x, y):
        p = x.softmax(1).gather(1, y[:, None])[:, 0]
        return weighted(-((1 - p) ** 2) * p.log(), y)

    return {
        "cross_entropy": lambda x, y: F.cross_entropy(x, y, weight=weight),
        "binary_cross_entropy": one_against_rest,
        "focal": focal,
        "own": lambda x, y: 0.5 * F.cross_entropy(x, y, weight=weight),
    }


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 4.0, 2.0]], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_its_reference_also_weighted_and_mixed(name, weights):
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(8, 4), torch.tensor([0, 1, 2, 3, 3, 3, 0, 1])
    config = make_config(loss=LOSSES[name], class_weights=weights)
    reference = references(None if weights is None else torch.tensor(weights).double())[name]
    mixed = Mix(torch.randperm(8), 0.3, None)
    for mix in (None, mixed):
        exact = logits.double().requires_grad_()
        expected = reference(exact, labels)
        if mix is not None:
            expected = 0.3 * expected + 0.7 * reference(exact, labels[mix.partner])
        expected.backward()
        loss, gradient = loss_and_gradient(config, logits, labels, mix)
        torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_weights_and_smoothing_together_are_those_of_pytorch():
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 4), torch.tensor([0, 1, 2, 3, 3, 3, 0, 1])
    config = make_config(class_weights=[1.0, 0.5, 4.0, 2.0], label_smoothing=0.1)
    weight = torch.tensor([1.0, 0.5, 4.0, 2.0])
    expected = F.cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)
    assert loss_and_gradient(config, logits, labels)[0] == expected


def test_the_binary_focal_loss_of_torchvision_is_that_of_two_classes():
    # The softmax of (0, x) is the sigmoid of x.
    x, labels = torch.linspace(-6, 6, 9), torch.tensor([0, 1, 1] * 3)
    two = torch.stack([torch.zeros(9), x], 1)
    splits = some_splits([0, 1], "ab")
    loss, _ = loss_and_gradient(make_config(loss="focal"), two, labels, splits=splits)
    expected = sigmoid_focal_loss(x, labels.float(), alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("gamma", [0.01, 0.5, 1.0, 5.0])
def test_focal_has_a_gradient_where_the_network_is_certain(gamma):
    # Without care (1 - p) ** gamma has an infinite slope at p = 1, and the product is no number.
    logits = torch.tensor([[40.0, 0.0], [0.0, 200.0], [20.0, 0.0]])
    config = make_config(loss={"focal": {"gamma": gamma}})
    splits = some_splits([0, 1], "ab")
    loss, gradient = loss_and_gradient(config, logits, torch.tensor([0, 1, 1]), splits=splits)
    assert gradient.isfinite().all()
    assert loss.item() == pytest.approx(20 / 3, rel=1e-5)  # of the last image, which is wrong


def test_balanced_weights_are_those_of_the_images_that_are_trained_on(data_dir):
    config = make_config(class_weights="balanced", limit_train=57, val_fraction=0.3)
    splits = open_splits(config, load_dataset("digits", data_dir), CPU)
    counts = np.bincount([label for _, y in splits.train.batches(0, 1) for label in y.tolist()])
    assert counts.sum() in (56, 57)
    weights = 57 / (10 * np.bincount(splits.train.labels))
    assert len(set(weights)) > 1
    torch.manual_seed(0)
    logits, labels = torch.randn(10, 10), torch.arange(10)
    expected = F.cross_entropy(logits, labels, weight=torch.tensor(weights).float())
    assert loss_and_gradient(config, logits, labels, splits=splits)[0] == expected
    with pytest.raises(ValueError, match=r"balanced needs an image of each class, but c has none"):
        build_loss(config, some_splits([0, 1, 3]), CPU)


def test_balanced_sampling_draws_every_class_equally_often_and_resumes():
    labels = np.repeat([0, 1, 3], [900, 90, 10])
    drawn = [balanced_draw(np.random.default_rng(seed), labels) for seed in range(30)]
    assert all(len(one) == 1000 for one in drawn)
    counts = np.bincount(labels[np.concatenate(drawn)], minlength=4)
    # Three standard deviations of a binomial with n = 30,000, p = 1/3 are 245.
    assert counts[2] == 0
    assert np.all(np.abs(counts[[0, 1, 3]] - 10_000) < 245)
    rare = np.bincount(np.concatenate(drawn))[990:]
    assert rare.min() > 800  # each image of the rarest class: 1,000 on average
    assert not np.array_equal(drawn[0], drawn[1])


def small_network():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(16, 10)
    )  # fmt: skip


def begin(config, data_dir):
    splits = open_splits(config, load_dataset("digits", data_dir), CPU)
    seed_everything(3)
    return start(config, small_network(), 3, CPU), splits


def flat(state):
    return [value.numpy().tobytes() for value in state.model.state_dict().values()]


def numbers(event):
    return {k: v for k, v in asdict(event).items() if not k.endswith("_s")}


MIXED: dict[str, Any] = {"plain": {}, "mixup": {"mixup": 0.3}, "cutmix": {"cutmix": 1.0}}


@pytest.mark.parametrize("mixed", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_two_steps_of_each_loss_resume_bit_for_bit(loss, mixed, data_dir, tmp_path):
    """With weights and balanced draws too; each loss trains another network than the others."""
    more = {"class_weights": "balanced", "sampling": "balanced", "limit_train": 32}
    config = make_config(loss=loss, augment=["crop"], **more, **mixed)
    state, splits = begin(config, data_dir)
    before = flat(state)
    events = train(state, splits, config, boundary_every_s=0.0)
    assert isinstance(next(events), StepBoundary)
    save_checkpoint(tmp_path / "one.pt", state.state_dict())
    (result,) = events
    assert isinstance(result, EpochResult)
    assert flat(state) != before
    if loss != "cross_entropy":
        plain, _ = begin(other := make_config(augment=["crop"], **more, **mixed), data_dir)
        list(train(plain, splits, other))
        assert flat(plain) != flat(state)
    again, splits = begin(config, data_dir)
    again.load_state_dict(load_checkpoint(tmp_path / "one.pt"))
    (rest,) = train(again, splits, config, boundary_every_s=1e9)
    assert flat(again) == flat(state)
    assert numbers(rest) == numbers(result)


def test_validation_stays_plain_cross_entropy(data_dir):
    config = make_config(loss="focal", class_weights="balanced")
    state, splits = begin(config, data_dir)
    (result,) = train(state, splits, config)
    state.model.eval()
    with torch.no_grad():
        pairs = [(state.model(x.clone()), y) for x, y in splits.val.batches()]
    logits, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    assert result.val_loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert result.train_loss < 0.9 * math.log(10)  # focal: less than the cross-entropy


def test_a_loss_that_is_no_loss_per_image_is_refused(data_dir):
    config = make_config(loss="own_losses:mean")
    state, splits = begin(config, data_dir)
    with pytest.raises(ValueError, match=r"mean must return a loss for each image.*\(\)"):
        list(train(state, splits, config))


def test_equal_spellings_are_one_config():
    plain = make_config()
    assert make_config(loss="cross_entropy") == plain
    assert make_config(loss={"focal": {"gamma": 0}}) == plain
    assert make_config(loss="focal") == make_config(loss={"kind": "focal", "gamma": 2})
    assert make_config(loss="focal", label_smoothing=0) == make_config(loss="focal")
    with pytest.raises(ValidationError, match="part of the cross-entropy, but loss is focal"):
        make_config(loss="focal", label_smoothing=0.1)
