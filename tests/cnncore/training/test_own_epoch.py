"""Epochs of the user's own: equal to the ordinary one, resumed, and held to their contract."""

import re
import sys
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import nn

from cnncore.checkpoint import load_checkpoint, save_checkpoint
from cnncore.config import TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.seeding import seed_everything
from cnncore.training.train import Diverged, EpochResult, start, train

CPU = torch.device("cpu")
OWN = '''
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def plain(epoch, step=True):
    """Train as the ordinary epoch does."""
    loss_sum, hits, images_seen = 0.0, 0, 0
    for images, labels in epoch.batches:
        with epoch.autocast():
            logits = epoch.model(images)
        loss = F.cross_entropy(logits.float(), labels)
        epoch.optimizer.zero_grad()
        loss.backward()
        if step:
            epoch.optimizer.step()
        loss_sum += loss.item() * len(labels)
        hits += (logits.argmax(1) == labels).sum().item()
        images_seen += len(labels)
    return loss_sum / images_seen, hits / images_seen


def remembers(epoch):
    """Pull the weights to their running mean, which it keeps with a momentum of its own."""
    memory, weights = epoch.memory, list(epoch.model.parameters())
    mean = memory.setdefault("mean", [w.detach().clone() for w in weights])
    memory["epochs"] = memory.get("epochs", 0) + 1
    memory["name"] = {"lrs": epoch.lrs, "seeds": (epoch.seed, None, True)}
    second = torch.optim.SGD(weights, lr=0.01, momentum=0.9)
    if "second" in memory:
        second.load_state_dict(memory["second"])
    loss_sum, n = 0.0, 0
    for (images, labels), lr in zip(epoch.batches, epoch.lrs):
        assert [g["lr"] for g in epoch.optimizer.param_groups] == [lr]
        loss = F.cross_entropy(epoch.model(images), labels)
        pull = sum((w - m).square().sum() for w, m in zip(weights, mean))
        loss = loss + 0.01 * memory["epochs"] * pull
        epoch.optimizer.zero_grad()
        loss.backward()
        epoch.optimizer.step()
        second.step()
        for m, w in zip(mean, weights):
            m.lerp_(w.detach(), 0.1)
        loss_sum, n = loss_sum + loss.item() * len(labels), n + len(labels)
    memory["second"] = second.state_dict()
    return loss_sum / n, torch.rand(()) * np.random.rand()


def skips(epoch):
    next(iter(epoch.batches))
    return 1.0, 0.5


def twice(epoch):
    plain(epoch)
    return plain(epoch)


def percent(epoch):
    loss, top1 = plain(epoch)
    return loss, 100 * top1 + 2


def nothing(epoch):
    plain(epoch)


def diverges(epoch):
    plain(epoch)
    return float("nan"), float("nan")


def never_steps(epoch):
    return plain(epoch, step=False)


def grows(epoch):
    epoch.model[0].add_module("extra", nn.Linear(2, 2))
    return plain(epoch)


def freezes(epoch):
    answer = plain(epoch)
    next(epoch.model.parameters()).requires_grad_(False)
    return answer


def hooks(epoch):
    epoch.model.register_forward_hook(lambda module, inputs, output: output * 1.1)
    return plain(epoch)


def keeping(make):
    def keep(epoch):
        answer = plain(epoch)
        epoch.memory["deep"] = [0, {"inside": make(epoch)}]
        return answer
    return keep


array = keeping(lambda epoch: np.ones(3))
module = keeping(lambda epoch: nn.Linear(1, 1))
alias = keeping(lambda epoch: epoch.model[1].weight.detach()[0])
moment = keeping(lambda epoch: next(iter(epoch.optimizer.state.values()))["momentum_buffer"])
graph = keeping(lambda epoch: epoch.model[1].weight * 2)
key = keeping(lambda epoch: {(1, 2): 3})
'''


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    load_dataset("digits", folder)
    return folder


@pytest.fixture(autouse=True)
def own_epochs(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "own_epochs.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("own_epochs", None)


def begin(config, data_dir, seed=3):
    splits = open_splits(config, load_dataset("digits", data_dir), CPU)
    seed_everything(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(16, 10)
    )  # fmt: skip
    return start(config, model, 3, CPU), splits


def make_config(**keys):
    defaults: dict[str, Any] = {
        "arch": "small",
        "dataset": "digits",
        "optimizer": "sgd",
        "lr": 0.05,
        "epochs": 3,
        "limit_train": 100,
        "batch_size": 32,
        "augment": ["crop"],
    }
    return TrialConfig(**(defaults | keys))


def run(config, data_dir):
    state, splits = begin(config, data_dir)
    return [numbers(event) for event in train(state, splits, config)], flat(state.state_dict())


def numbers(event):
    assert isinstance(event, EpochResult)
    return {k: v for k, v in asdict(event).items() if not k.endswith("_s")}


def flat(value, path=""):
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{path}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for i, one in enumerate(value) for k, v in flat(one, f"{path}/{i}").items()}
    if isinstance(value, torch.Tensor):
        return {path: value.detach().numpy().tobytes()}
    return {} if path.endswith("train_time_s") else {path: value}


CASES: dict[str, dict[str, Any]] = {
    "sgd, ema, cosine": {"ema": 0.9, "schedule": "cosine", "warmup_epochs": 1},
    "adam, bf16, balanced": {"optimizer": "adam", "precision": "bf16", "sampling": "balanced"},
}


@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_an_epoch_that_does_what_ours_does_gives_the_same_bits(keys, data_dir):
    own = run(make_config(train_epoch="own_epochs:plain", **keys), data_dir)
    assert own == run(make_config(**keys), data_dir)


def test_it_goes_on_bit_for_bit_with_its_memory_after_each_epoch(data_dir, tmp_path):
    config = make_config(train_epoch="own_epochs:remembers", ema=0.9, schedule="cosine")
    state, splits = begin(config, data_dir)
    results = []
    for event in train(state, splits, config, boundary_every_s=0.0):
        results.append(numbers(event))  # there is no boundary within an epoch
        save_checkpoint(tmp_path / f"{len(results)}.pt", state.state_dict())
    assert len(results) == 3
    assert len({result["train_top1"] for result in results}) == 3  # each epoch's own draws
    assert state.memory["epochs"] == 3
    for done in (1, 2):
        again, splits = begin(config, data_dir, seed=99)
        again.load_state_dict(load_checkpoint(tmp_path / f"{done}.pt"))
        rest = [numbers(event) for event in train(again, splits, config)]
        assert rest == results[done:]
        assert flat(again.state_dict()) == flat(state.state_dict())


REFUSED = {
    "skips": "took 1 of the 4 batches of epoch 1",
    "twice": "a second pass over the images would be another budget",
    "percent": "but it is a share of the images, from 0 to 1",
    "nothing": "must return two numbers, (loss, top1)",
    "never_steps": "never called optimizer.step()",
    "grows": "left the parameter 0.extra.weight changed",
    "freezes": "left the parameter 1.weight changed",
    "hooks": "left the module (the network itself) changed",
    "array": "memory['deep'][1]['inside'] is a numpy.ndarray",
    "module": "is a torch.nn.modules.linear.Linear: a checkpoint holds tensors, numbers, text",
    "alias": "is the memory of the network's 1.weight itself",
    "moment": "is the memory of the optimizer's momentum_buffer itself",
    "graph": "memory['deep'][1]['inside'] hangs on a gradient",
    "key": "the keys of memory['deep'][1]['inside'] must be text or whole numbers, got (1, 2)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_checkpoint_or_a_table_would_get_wrong_is_refused(name, data_dir):
    config = make_config(train_epoch=f"own_epochs:{name}", ema=0.9)
    state, splits = begin(config, data_dir)
    with pytest.raises((ValueError, RuntimeError), match=re.escape(REFUSED[name])):
        list(train(state, splits, config))


def test_a_loss_that_is_no_number_ends_the_trial_as_diverged(data_dir):
    config = make_config(train_epoch="own_epochs:diverges")
    state, splits = begin(config, data_dir)
    with pytest.raises(Diverged, match="epoch 1"):
        list(train(state, splits, config))
