"""Losses, class weights and epochs of the user's own: refused in the plan, with their line."""

import json
import sys
from pathlib import Path

import pytest

from grid import load_sweep, make_plan
from grid.api import use_own_modules
from grid.errors import SweepError
from grid.trial.network_check import try_networks, unfinished_configs
from tests.small_sweeps import run_local, trial_rows

OWN = """
import numpy as np
import torch
from torch.nn import functional as F

calls = []

def good(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")

def mean(logits, labels):
    return F.cross_entropy(logits, labels)

def counts(logits, labels):
    calls.append(1)
    return len(calls) * F.cross_entropy(logits, labels, reduction="none")

def cut(logits, labels):
    return F.cross_entropy(logits.detach(), labels, reduction="none")

def typo(logits, labels):
    return F.cross_entropy(logits, lables, reduction="none")

def epoch(epoch, step=True):
    loss_sum, n = 0.0, 0
    for images, labels in epoch.batches:
        loss = F.cross_entropy(epoch.model(images), labels)
        epoch.optimizer.zero_grad()
        loss.backward()
        if step:
            epoch.optimizer.step()
        loss_sum, n = loss_sum + loss.item() * len(labels), n + len(labels)
    return loss_sum / n, 0.5

def skips(epoch):
    return 1.0, 0.5

def outside(own):
    calls.append(1)
    own.optimizer.param_groups[0]["weight_decay"] = 0.1 * len(calls)
    return epoch(own)

def shares(own):
    mean = own.memory.setdefault("mean", [w.detach().clone() for w in own.model.parameters()])
    own.memory["kept"] = np.float32(1)
    return epoch(own)

class Half:
    def __call__(self, image):
        return image[:, ::2]

def idle(own):
    return epoch(own, step=False)

def dataset():
    labels = np.arange(60) % 2
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    return dict(train_images=images, train_labels=labels, test_images=images[:4],
                test_labels=labels[:4], class_names=["a", "b", "never"])
"""


@pytest.fixture
def sweep(write_sweep, tmp_path, monkeypatch):
    (tmp_path / "own_training.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(**changes):
        fixed = {"lr": 0.01, "epochs": 1, "limit_train": 64, "limit_test": 20}
        fixed |= changes.pop("fixed", {})
        return write_sweep(
            **{"compare": {"arch": ["cnn3"]}, "seeds": [0], **changes, "fixed": fixed}
        )

    yield write
    sys.modules.pop("own_training", None)


def tried(path, data_dir):
    use_own_modules()
    plan = make_plan(load_sweep(path), data_dir=data_dir)
    return try_networks(plan, unfinished_configs(plan, ()), "cpu")


LOSSES = {
    "mean": "here (2,), but got the shape () (own_training.py:11)",
    "counts": "gives two answers for the same logits",
    "cut": "has no gradient for the logits",
    "typo": "NameError: name 'lables' is not defined (own_training.py:22)",
    "absent": "has no function absent",
}
EPOCHS = {
    "skips": "took 0 of the 2 batches of epoch 1",
    "outside": "trains differently from the same start",
    "shares": "memory['kept'] is a numpy.float32",
}


def test_a_faulty_loss_or_epoch_is_found_before_the_run(sweep, data_dir):
    for key, expected in (("loss", LOSSES), ("train_epoch", EPOCHS)):
        good = {"loss": "good", "train_epoch": "epoch"}[key]
        names = [f"own_training:{name}" for name in (*expected, good)]
        found = tried(sweep(compare={"arch": ["cnn3"], key: names}), data_dir)
        messages = found.placed_messages()
        assert [place for place, _ in messages] == [key] * len(expected)
        for (_, line), name in zip(messages, expected, strict=True):
            assert line.startswith(f"own_training:{name}: ")
            assert expected[name] in line
    assert "own_training" not in sys.modules


@pytest.mark.slow
def test_a_trial_of_a_faulty_loss_fails_and_the_others_run(sweep, data_dir):
    names = ["own_training:typo", "own_training:good"]
    path = sweep(compare={"arch": ["cnn3"], "loss": names})
    summary = run_local(path, "results", data_dir)
    assert summary.states == {"complete": 1, "failed": 1}
    (failed,) = [row for row in trial_rows(Path(summary.folder)) if row.state == "failed"]
    assert "lables" in failed.reason
    assert json.loads(failed.config)["loss"] == "own_training:typo"
    found = tried(sweep(fixed={"train_epoch": "own_training:idle"}), data_dir)
    assert found.messages() == []
    assert "never calls optimizer.step()" in found.remarks()[0]


REFUSED = {
    "mixup": ({"train_epoch": "own_training:epoch", "mixup": 0.3}, "decides nothing beside"),
    "aux_weight": ({"train_epoch": "own_training:epoch", "aux_weight": 1}, "decides nothing"),
    "label_smoothing": ({"loss": "focal", "label_smoothing": 0.1}, "but loss is focal"),
    "class_weights": ({"class_weights": [1, 2]}, "one for each of the 10 classes (0, 1, 2"),
    "sampling": (
        {"sampling": "balanced", "dataset": "own_training:dataset", "limit_train": None,
         "limit_test": None},
        "but own_training:dataset has none of never with these settings",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=pytest.mark.slow) if key == "sampling" else key for key in REFUSED],
)
def test_keys_that_do_not_go_together_are_refused_with_their_line(key, sweep, data_dir):
    keys, text = REFUSED[key]
    path = sweep(fixed=keys)
    (line,) = [
        number for number, one in enumerate(path.read_text().splitlines(), 1) if f'"{key}":' in one
    ]
    use_own_modules()
    with pytest.raises(SweepError) as caught:
        make_plan(load_sweep(path), data_dir=data_dir)
    (problem,) = caught.value.problems
    assert f"sweep.yaml:{line}: fixed.{key}: " in problem
    assert f"{key}: {key}" not in problem
    assert text in problem


def test_weights_by_name_are_those_in_the_order_of_the_classes(sweep, data_dir):
    weights = {str(digit): digit + 1 for digit in reversed(range(10))}
    paths = [sweep(fixed={"class_weights": w}) for w in (weights, list(range(1, 11)))]
    first, second = (make_plan(load_sweep(path), data_dir=data_dir).trials for path in paths)
    assert first[0].config.class_weights == tuple(map(float, range(1, 11)))
    paths = [sweep(fixed={"class_weights": {**weights, "tenn": 1}})]
    with pytest.raises(SweepError, match="there is no class 'tenn'"):
        make_plan(load_sweep(paths[0]), data_dir=data_dir)
    assert first[0].trial_id == second[0].trial_id


def test_faults_of_the_file_of_its_values_and_of_its_code_are_said_at_once(sweep, cnngrid):
    path = sweep(
        compare={"arch": ["cnn3"], "loss": ["own_training:typo", "own_training:mean"]},
        fixed={
            "batch_sise": 32,
            "momentum": "much",
            "warmup_epochs": 3,
            "limit_train": 5,
            "augment": ["own_training:Half"],
        },
        metrics=["own_training:absent"],
    )
    lines = path.read_text().splitlines()

    def at(key: str) -> str:
        (line,) = [number for number, text in enumerate(lines, 1) if f'"{key}":' in text]
        return f"{path}:{line}: "

    done = cnngrid("plan", path)
    assert done.returncode == 2
    said = done.stderr.removeprefix("cnngrid: ").splitlines()
    for where, text in (
        (at("batch_sise") + "fixed.batch_sise", "unknown key"),
        (at("momentum") + "fixed.momentum", "valid number"),
        (at("warmup_epochs") + "fixed.warmup_epochs", "at most the epochs (1), but got 3"),
        (at("limit_train") + "fixed.limit_train", "digits has 10 classes"),
        (at("loss") + "compare.loss", "own_training:typo: NameError: name 'lables'"),
        (at("loss") + "compare.loss", "own_training:mean: "),
        (f"{path}:", "metrics[0]: own_training:absent: "),
        (f"{path}:", "fixed.augment: own_training:Half: must return a uint8 image of shape"),
    ):
        assert any(line.startswith(where) and text in line for line in said), (where, said)
    # A run would download the data: that these are not there yet is no problem of the file.
    path = sweep(fixed={"batch_sise": 32, "dataset": "cifar10", "image_size": 32})
    for command, count in (("plan", 2), ("run", 1)):
        assert len(cnngrid(command, path).stderr.splitlines()) == count
    # What may only follow from another fault is not said: the image side decides what fits.
    path = sweep(
        compare={"arch": ["alexnet"]},
        fixed={"image_size": "large", "loss": "own_training:typo"},
    )
    (line,) = cnngrid("plan", path).stderr.splitlines()
    assert "fixed.image_size" in line
