"""Optimizers of the user's own: modes, what is refused before a run, and with which words."""

import copy
import sys
from typing import Any

import schedulefree
import torch
from torch import nn

from cnncore.checkpoint import load_checkpoint, save_checkpoint
from cnncore.config import TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.measure.evaluate import predict
from cnncore.seeding import derive_seed, seed_epoch, seed_everything
from cnncore.training.optimizers.modes import STATISTICS_BATCHES, renew_statistics
from cnncore.training.optimizers.tried import try_optimizer
from cnncore.training.train import EpochResult, start, train, validation_scores

CPU = torch.device("cpu")
FREE = "schedulefree:AdamWScheduleFree"


def make_config(**keys: Any) -> TrialConfig:
    return TrialConfig(
        **{
            "arch": "small",
            "dataset": "digits",
            "optimizer": FREE,
            "lr": 0.01,
            "epochs": 2,
            "limit_train": 96,
            "batch_size": 32,
            "augment": ["flip"],
            **keys,
        }
    )


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(6 * 64, 10),
    )


def begin(config, tmp_path):
    splits = open_splits(config, load_dataset("digits", tmp_path), CPU)
    seed_everything(0)
    return start(config, network(), 0, CPU), splits


def test_a_schedule_free_trial_evaluates_the_averaged_weights_and_resumes_to_the_bit(tmp_path):
    config = make_config(warmup_epochs=1)
    state, splits = begin(config, tmp_path)
    results = []
    for i, event in enumerate(train(state, splits, config, boundary_every_s=0.0)):
        save_checkpoint(tmp_path / f"{i}.pt", state.state_dict())
        in_training = state.optimizer.param_groups[0]["train_mode"]
        assert in_training == (not isinstance(event, EpochResult))
        if isinstance(event, EpochResult):
            results.append(event)
            predicted = predict(state.model, splits.val.batches(), precision="fp32", device=CPU)
            assert validation_scores(*predicted)[:2] == (event.val_loss, event.val_top1)
    whole = copy.deepcopy(state.model.state_dict())
    for stop in (0, 2, 3):
        resumed, _ = begin(config, tmp_path)
        payload = load_checkpoint(tmp_path / f"{stop}.pt")
        assert payload is not None
        resumed.load_state_dict(payload)
        again = [e for e in train(resumed, splits, config) if isinstance(e, EpochResult)]
        assert [e.val_loss for e in again] == [e.val_loss for e in results][-len(again) :]
        for name, value in resumed.model.state_dict().items():
            assert torch.equal(value, whole[name]), (stop, name)

    # By hand, as the package's README does it.
    model, splits = network().to(memory_format=torch.channels_last), begin(config, tmp_path)[1]
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.01)
    for epoch in (1, 2):
        optimizer.train()
        seed_epoch(derive_seed(0, "epoch", epoch))
        model.train()
        for step, (images, labels) in enumerate(splits.train.batches(0, epoch), 1):
            optimizer.param_groups[0]["lr"] = 0.01 * (step / 3 if epoch == 1 else 1.0)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        optimizer.eval()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, whole[name]), name


def test_statistics_are_those_of_pytorchs_update_bn_without_dropout():
    batches = [(torch.rand(8, 3, 8, 8), torch.zeros(8)) for _ in range(STATISTICS_BATCHES // 10)]
    ours, theirs = network(), network()
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    before = torch.get_rng_state()
    renew_statistics(ours, batches, "fp32")
    assert torch.equal(torch.get_rng_state(), before)
    torch.optim.swa_utils.update_bn([images for images, _ in batches], theirs)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    assert ours[1].momentum == 0.1
    assert ours[1].training
    frozen = network()
    renew_statistics(frozen, batches, "fp32", frozen_norms=[frozen[1]])
    assert torch.equal(frozen[1].running_mean, torch.zeros(6))


OPTIMIZERS = """
import os
import torch

class Good(torch.optim.Optimizer):
    def __init__(self, params, lr, decay=0.1):
        super().__init__(params, dict(lr=lr, decay=decay))
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                state["v"] = state.get("v", 0) * 0.9 + weight.grad
                weight.sub_(group["lr"] * state["v"])

class Forgets(Good):
    def step(self, closure=None):
        self.calls = getattr(self, "calls", 0) + 1
        for group in self.param_groups:
            group["lr"] *= self.calls
        super().step()

class Unmoved(Good):
    def step(self, closure=None):
        pass

class Deaf(Good):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.rate = lr
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = self.rate
        super().step()

class Unsaved(Good):
    def state_dict(self):
        return {**super().state_dict(), "extra": self}

class Raises(Good):
    def step(self, closure=None):
        raise RuntimeError("no luck")

class Leaves(Good):
    def step(self, closure=None):
        raise SystemExit(3)

def nothing(params, lr):
    return object()
"""
REFUSED = {
    "Good": None,
    "Forgets": "from a checkpoint within an epoch would go on with other numbers",
    "Unmoved": "its steps change no weight",
    "Deaf": "do not depend on the `lr` of its param_groups",
    "Unsaved": "UnpicklingError",
    "Raises": "RuntimeError: no luck (own_optimizers.py:42)",
    "Leaves": "SystemExit: 3",
    "nothing": "its object has no param_groups, step, zero_grad, state_dict, load_state_dict",
}


def test_what_would_go_wrong_in_a_trial_is_found_on_a_tiny_network(tmp_path, monkeypatch):
    (tmp_path / "own_optimizers.py").write_text(OPTIMIZERS)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        for name, expected in REFUSED.items():
            answer = try_optimizer({"optimizer": f"own_optimizers:{name}", "lr": 0.1})
            assert (expected is None) == (answer["problem"] is None), (name, answer)
            assert expected is None or expected in answer["problem"], (name, answer)
    finally:
        sys.modules.pop("own_optimizers", None)


def test_optimizers_of_packages_pass():
    for keys in ({"optimizer": FREE}, {"optimizer": "torch.optim:RMSprop", "momentum": 0.5}):
        assert try_optimizer({**keys, "lr": 0.1})["problem"] is None
    sparse = try_optimizer({"optimizer": "torch.optim:SparseAdam", "lr": 0.1})
    assert "does not support dense gradients" in sparse["problem"]
