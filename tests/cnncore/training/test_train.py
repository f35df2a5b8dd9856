"""Training loop: its metrics, its end, and resuming after an interruption at any step."""

import copy
import itertools
import multiprocessing
import random
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cnncore.checkpoint import load_checkpoint, save_checkpoint
from cnncore.config import EarlyStop, TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.data.augment.mixing import draw_mix
from cnncore.measure.evaluate import predict
from cnncore.models.classifier_head import freeze_features
from cnncore.seeding import derive_seed, seed_epoch, seed_everything
from cnncore.training.ema import update_ema
from cnncore.training.train import (
    Diverged,
    EpochResult,
    StepBoundary,
    early_stop,
    start,
    train,
    validation_scores,
)
from cnncore.training.train_state import BestSoFar, chosen_model

CPU = torch.device("cpu")
TIMES = ("train_time_s", "eval_time_s", "train_images_per_s")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    load_dataset("digits", folder)
    return folder


def make_config(**keys):
    defaults: dict[str, Any] = {
        "arch": "small",
        "dataset": "digits",
        "optimizer": "sgd",
        "momentum": 0.9,
        "lr": 0.05,
        "epochs": 4,
        "limit_train": 160,
        "batch_size": 48,
        "augment": ["flip", "crop"],
    }
    return TrialConfig(**(defaults | keys))


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )


def begin(config, data_dir, seed=3):
    splits = open_splits(config, load_dataset("digits", data_dir), CPU)
    seed_everything(seed)
    return start(config, small_network(), seed, CPU), splits


def metrics(result):
    return {key: value for key, value in asdict(result).items() if key not in TIMES}


def flat(value, path=""):
    """Return every tensor and plain value of a nested state by its path."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{path}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, one in enumerate(value) for k, v in flat(one, f"{path}/{i}").items()}
    if isinstance(value, torch.Tensor):
        return {path: (value.dtype, value.stride(), value.contiguous().numpy().tobytes())}
    return {} if path.endswith("train_time_s") else {path: value}


def whole_run(config, data_dir, checkpoints=None):
    """Return metrics and final state; with a folder, write a checkpoint at every yield."""
    state, splits = begin(config, data_dir)
    results = []
    for i, event in enumerate(train(state, splits, config, boundary_every_s=0.0)):
        if isinstance(event, EpochResult):
            results.append(metrics(event))
        if checkpoints is not None:
            save_checkpoint(checkpoints / f"{i:03}.pt", state.state_dict())
        torch.rand(17)  # random numbers that a consumer draws must not matter
        state.model.eval()
    return results, flat(state.state_dict())


def resume(config, data_dir, checkpoint, queue):
    """Resume the checkpoint in this process, in a network with other weights, to the end."""
    torch.set_num_threads(1)
    state, splits = begin(config, data_dir)
    nn.init.zeros_(next(state.model.parameters()))
    state.load_state_dict(load_checkpoint(checkpoint))
    events = list(train(state, splits, config, boundary_every_s=1e9))
    queue.put(([metrics(event) for event in events], flat(state.state_dict())))


CASES = {
    "sgd, plateau, ema": {
        "schedule": {"plateau": {"factor": 0.5, "patience": 0}},
        "momentum_form": "average",
        "l2": 0.001,
        "ema": 0.5,
        "lr": 20.0,
        "grad_clip": 1.0,
        "epochs": 5,
    },
    "adam, bf16, early stop": {
        "optimizer": "adam",
        "momentum": None,
        "lr": 0.05,
        "precision": "bf16",
        "label_smoothing": 0.1,
        "schedule": "cosine",
        "warmup_epochs": 1,
        "epochs": 9,
        "early_stop": {"patience": 2, "min_delta": 0.05},
    },
    "mixed and distorted images": {
        "mixup": 0.3,
        "cutmix": 1.0,
        "augment": ["flip", "crop", {"rotate": {"degrees": 10}}, {"erase": {"size": 3}}],
        "enhance": {"contrast": 1.5},
    },
    # Passes of 4 steps: epochs end within a pass, and the second cut stops at the floor.
    "epochs of 6 steps, plateau with a floor": {
        "steps_per_epoch": 6,
        "schedule": {"plateau": {"factor": 0.1, "patience": 0, "min_lr": 0.5}},
        "lr": 20.0,
        "augment": ["flip", "crop", {"rotate": {"degrees": 10}}],
        "epochs": 5,
    },
    "no validation images": {"val_fraction": 0, "select": "last", "epochs": 3},
}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_a_run_cut_off_anywhere_goes_on_bit_for_bit(keys, data_dir, tmp_path, one_thread):
    config = make_config(**keys)
    expected, final = whole_run(config, data_dir, tmp_path)
    assert whole_run(config, data_dir) == (expected, final)
    checkpoints = sorted(tmp_path.iterdir())
    # A boundary after each step but the last, and a result.
    assert len(checkpoints) == (config.steps_per_epoch or 4) * len(expected)
    if config.schedule.kind == "plateau":
        assert len({result["lr"] for result in expected}) > 1
        if floor := config.schedule.min_lr:
            assert [result["lr"] for result in expected].count(floor) > 1
    if config.early_stop:
        assert 3 <= len(expected) < config.epochs
        assert expected[-1]["stop_reason"]
    # In this process from every yield; in a new one from the middle of the second epoch.
    for path in checkpoints:
        state, splits = begin(config, data_dir, seed=99)
        state.load_state_dict(load_checkpoint(path))
        rest = [metrics(event) for event in train(state, splits, config, boundary_every_s=1e9)]
        assert rest == expected[len(expected) - len(rest) :]
        assert flat(state.state_dict()) == final
    fresh = multiprocessing.get_context("spawn")
    queue = fresh.Queue()
    middle = checkpoints[(config.steps_per_epoch or 4) + 1]
    process = fresh.Process(target=resume, args=(config, data_dir, middle, queue))
    process.start()
    rest, state = queue.get(timeout=300)
    process.join()
    assert rest == expected[1:]
    assert state == final


def test_generators_of_python_and_numpy_go_on_too(data_dir, tmp_path, one_thread):
    config = make_config(epochs=2)

    def begin_noisy(seed=3):
        state, splits = begin(config, data_dir, seed)
        state.model.register_forward_pre_hook(
            lambda module, inputs: inputs[0] * (random.random() + np.random.randn())
        )
        return state, splits

    state, splits = begin_noisy()
    for i, _ in enumerate(train(state, splits, config, boundary_every_s=0.0)):
        save_checkpoint(tmp_path / f"{i}.pt", state.state_dict())
        random.random()  # what a consumer draws must not matter
        np.random.rand()
    for path in tmp_path.iterdir():
        resumed, splits = begin_noisy(seed=99)
        resumed.load_state_dict(load_checkpoint(path))
        list(train(resumed, splits, config, boundary_every_s=1e9))
        assert flat(resumed.state_dict()) == flat(state.state_dict())


def test_it_learns_digits_and_reports_what_the_model_does(data_dir):
    config = make_config(limit_train=None, epochs=3, augment=[], lr=0.1)
    state, splits = begin(config, data_dir)
    results = [event for event in train(state, splits, config) if isinstance(event, EpochResult)]
    assert [result.epoch for result in results] == [1, 2, 3]
    assert (results[-1].val_top1 or 0.0) > 0.9
    assert results[-1].train_loss < results[0].train_loss
    best = max(results, key=lambda result: result.val_top1 or 0.0)
    assert state.best_epoch == best.epoch
    again = predict(
        chosen_model(state), splits.val.batches(), precision="fp32", device=torch.device("cpu")
    )
    for kept, predicted in zip(state.best_predictions, again, strict=True):
        assert torch.equal(kept, predicted)
    assert validation_scores(*again) == (best.val_loss, best.val_top1, best.val_top5)
    with torch.inference_mode():
        images, labels = zip(*((x.clone(), y) for x, y in splits.val.batches()), strict=True)
        logits = chosen_model(state)(torch.cat(images))
    loss = nn.functional.cross_entropy(logits, torch.cat(labels))
    assert best.val_loss == pytest.approx(loss.item(), rel=1e-5)
    assert best.val_top1 == pytest.approx((logits.argmax(1) == torch.cat(labels)).double().mean())


@pytest.mark.parametrize(("steps", "images"), [(None, 160), (3, 144), (6, 160 + 96)])
def test_train_metrics_are_running_means_in_training_mode(steps, images, data_dir):
    config = make_config(epochs=1, steps_per_epoch=steps, lr=1e-12, momentum=0.0)
    state, splits = begin(config, data_dir)
    state.model[4].p = 0.0
    (result,) = train(state, splits, config)
    losses, hits = [], 0
    with torch.no_grad():
        model = state.model.train()
        for batch, labels in splits.train.batches(3, 1):
            logits = model(batch)
            losses.append(nn.functional.cross_entropy(logits, labels).item() * len(labels))
            hits += (logits.argmax(1) == labels).sum().item()
    assert result.train_loss == pytest.approx(sum(losses) / images, rel=1e-5)
    assert result.train_top1 == pytest.approx(hits / images)
    assert result.train_images_per_s * result.train_time_s == pytest.approx(images)


def test_select_last_keeps_no_copy_and_takes_the_last_epoch(data_dir):
    config = make_config(select="last", epochs=2)
    state, splits = begin(config, data_dir)
    results = list(train(state, splits, config))
    assert [result.is_best for result in results] == [True, True]
    assert state.best_weights is None
    assert chosen_model(state) is state.model


def test_a_longer_budget_goes_on_from_a_shorter_ones_end(data_dir, one_thread):
    expected, final = whole_run(make_config(epochs=3), data_dir)
    state, splits = begin(make_config(epochs=1), data_dir)
    list(train(state, splits, make_config(epochs=1)))
    rest = [metrics(result) for result in train(state, splits, make_config(epochs=3))]
    assert rest == expected[1:]
    assert flat(state.state_dict()) == final


@pytest.mark.parametrize("metric", [None, "val_top1"])
def test_a_plateau_cuts_as_pytorchs(metric, data_dir, monkeypatch):
    losses = [5.0, 4.0, 4.0, 4.0, *[3.0] * 8, 1.0]
    scores = ((0.9, 1 - x / 10, None) if metric else (x, 0.5, None) for x in losses)
    monkeypatch.setattr("cnncore.training.train.validation_scores", lambda *_: next(scores))
    schedule = {"plateau": {"factor": 0.5, "patience": 2, "metric": metric}}
    config = make_config(epochs=len(losses), limit_train=20, schedule=schedule)
    state, splits = begin(config, data_dir)
    rates = [result.lr for result in train(state, splits, config)]

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=config.lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=0
    )
    expected = []
    for loss in losses:
        expected.append(optimizer.param_groups[0]["lr"])
        plateau.step(loss)
    assert rates == pytest.approx(expected)
    assert len(set(rates)) == 3


def test_stopping_six_epochs_after_a_cut_is_early_stop_after_twelve():
    """astrokhet-2024's rule: cut after more than 5 epochs without a better val_top1; stop when
    a cut was followed by another 6 without one.
    """
    rule = EarlyStop(metric="val_top1", patience=12)
    lengths = []
    for seed in range(200):
        scores = np.random.default_rng(seed).integers(0, 40, 100) / 40
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=1 / 3, patience=5, threshold=0
        )
        best, cut_without_better, since_cut, stopped = -1.0, False, 0, None
        for epoch, score in enumerate(scores, start=1):
            before = optimizer.param_groups[0]["lr"]
            plateau.step(score)
            if score > best:
                best, cut_without_better = score, False
            elif cut_without_better:
                since_cut += 1
                if since_cut == 6:
                    stopped = epoch
                    break
            elif optimizer.param_groups[0]["lr"] < before:
                cut_without_better, since_cut = True, 0
        best_so_far = BestSoFar()
        stop_epoch = next(
            (i for i, x in enumerate(scores, 1) if early_stop(best_so_far, rule, 0.0, x)), None
        )
        assert stop_epoch == stopped
        lengths.append(stopped)
    assert len(set(lengths)) > 20


def test_early_stop_counts_epochs_without_enough_improvement(data_dir, monkeypatch):
    values = iter([0.1, 0.5, 0.505, 0.505, 0.9])
    monkeypatch.setattr(
        "cnncore.training.train.validation_scores", lambda *_: (1.0, next(values), None)
    )
    rule = {"metric": "val_top1", "patience": 2, "min_delta": 0.01}
    config = make_config(epochs=5, limit_train=20, early_stop=rule)
    state, splits = begin(config, data_dir)
    results = list(train(state, splits, config))
    assert len(results) == 4
    assert results[-1].stop_reason == "early_stop: no better val_top1 in 2 epochs"
    assert state.best_epoch == 3  # the earlier of two as good
    assert list(train(state, splits, config)) == []


@pytest.mark.parametrize("boundary_every_s", [0.0, 1e9])
def test_a_loss_that_is_not_finite_ends_the_run_before_any_checkpoint(data_dir, boundary_every_s):
    config = make_config(lr=1e30)
    state, splits = begin(config, data_dir)
    events = train(state, splits, config, boundary_every_s=boundary_every_s)
    with pytest.raises(Diverged) as caught:
        list(itertools.dropwhile(lambda event: isinstance(event, StepBoundary), events))
    assert caught.value.epoch == 1


def test_ema_is_a_running_average_of_weights_and_buffers():
    seed_everything(0)
    model, ema = small_network(), small_network()
    before = {name: value.clone() for name, value in ema.state_dict().items()}
    model[1].num_batches_tracked += 5
    update_ema(ema, model, 0.99, step=8)  # early: (1 + 8) / (10 + 8) = 0.5
    for name, value in ema.state_dict().items():
        new = model.state_dict()[name]
        expected = new if "tracked" in name else (before[name] + new) / 2
        torch.testing.assert_close(value, expected)
    assert not torch.equal(ema[0].weight, model[0].weight)


def test_ema_moves_a_shared_weight_once():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    ema = copy.deepcopy(model)
    old = first.weight.detach().clone()
    nn.init.ones_(first.weight)
    update_ema(ema, model, 0.75, step=100)
    assert torch.allclose(ema.state_dict()["0.weight"], 0.75 * old + 0.25)


def test_top5_is_none_below_six_classes(data_dir):
    digits = load_dataset("digits", data_dir)
    few = {
        f"{split}_{part}": getattr(digits, f"{split}_{part}")[
            getattr(digits, f"{split}_labels") < 5
        ]
        for split in ("train", "test")
        for part in ("images", "labels")
    }
    config = make_config(epochs=1)
    splits = open_splits(config, replace(digits, class_names=digits.class_names[:5], **few), CPU)
    model = small_network()
    model[-1] = nn.Linear(128, 5)
    (result,) = train(start(config, model, 0, CPU), splits, config)
    assert result.val_top5 is None
    assert result.val_loss is not None
    assert np.isfinite(result.val_loss)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_loss_of_mixed_images_is_that_of_soft_labels(data_dir, seed):
    keys = {"mixup": 1.0, "cutmix": 1.0, "label_smoothing": 0.1}
    config = make_config(epochs=1, limit_train=48, **keys)
    state, splits = begin(config, data_dir, seed)
    (result,) = train(state, splits, config)

    state, splits = begin(config, data_dir, seed)
    images, labels = next(splits.train.batches(seed, epoch=1))
    mixed = draw_mix(config, images, seed, 1, 1)
    assert 0 < mixed.share < 1
    own = F.one_hot(labels, 10).float()
    soft = mixed.share * own + (1 - mixed.share) * own[mixed.partner]
    torch.testing.assert_close(soft.sum(1), torch.ones(48))
    seed_epoch(derive_seed(seed, "epoch", 1))  # of dropout
    logits = state.model.train()(mixed.images(images))
    expected = F.cross_entropy(logits, soft, label_smoothing=0.1)
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-5)
    right = torch.eq(logits.argmax(1), soft.argmax(1)).float().mean()
    assert result.train_top1 == pytest.approx(right.item())


class TwoHeads(nn.Module):
    """Network that in training mode returns its logits and those of two linear auxiliary heads."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16))
        self.fc, self.aux1, self.aux2 = (nn.Linear(16, 10) for _ in range(3))

    def forward(self, x):
        x = self.features(x)
        return (self.fc(x), self.aux2(x), self.aux1(x)) if self.training else self.fc(x)


def one_step(config, data_dir, model):
    """Take one step; return the network before it, the result, and the step's images and labels."""
    splits = open_splits(config, load_dataset("digits", data_dir), CPU)
    before = copy.deepcopy(model)
    (result,) = train(start(config, model, 3, CPU), splits, config)
    ((images, labels),) = splits.train.batches(3, 1, 0)
    return before.train(), result, images, labels


def test_each_heads_loss_counts_aux_weight(data_dir):
    seed_everything(0)
    model = TwoHeads()
    config = make_config(
        aux_weight=0.3, label_smoothing=0.1, epochs=1, batch_size=160, momentum=0.0, lr=1.0
    )
    before, result, images, labels = one_step(config, data_dir, model)
    losses = [
        nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
        for logits in before(images)
    ]
    total = losses[0] + 0.3 * (losses[1] + losses[2])
    total.backward()
    assert result.train_loss == pytest.approx(total.item(), rel=1e-5)
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(new, old - old.grad, msg=name)


def test_frozen_features_keep_weights_and_statistics(data_dir):
    seed_everything(0)
    model = TwoHeads()
    freeze_features(model)
    config = make_config(freeze="features", epochs=1, batch_size=40)
    before = copy.deepcopy(model.features.state_dict())
    heads = copy.deepcopy(model.fc.state_dict())
    splits = open_splits(config, load_dataset("digits", data_dir), CPU)
    events = list(train(start(config, model, 3, CPU), splits, config, boundary_every_s=0.0))
    assert any(isinstance(event, StepBoundary) for event in events)
    assert all(torch.equal(before[n], v) for n, v in model.features.state_dict().items())
    assert not any(torch.equal(heads[n], v) for n, v in model.fc.state_dict().items())
