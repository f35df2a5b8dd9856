"""Learning rates and optimizers against PyTorch's own."""

import pytest
import torch
from torch.optim import lr_scheduler

from cnncore.config import TrialConfig
from cnncore.optim import build_optimizer, learning_rate

STEPS = 7


def config(**keys):
    keys = {"optimizer": "sgd", "epochs": 10, **keys}
    return TrialConfig(arch="cnn3", dataset="digits", lr=0.5, **keys)


def rates(config):
    return [learning_rate(config, step, STEPS) for step in range(1, config.epochs * STEPS + 1)]


def reference(make, every):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler, out = make(optimizer), []
    for step in range(1, 10 * STEPS + 1):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return out


def test_schedules_equal_torchs():
    cosine = reference(lambda o: lr_scheduler.CosineAnnealingLR(o, 10 * STEPS, 0.05), every=1)
    assert rates(config(schedule={"cosine": {"final": 0.1}})) == pytest.approx(cosine)
    step = reference(lambda o: lr_scheduler.StepLR(o, 3, 0.2), every=STEPS)
    assert rates(config(schedule={"step": {"every": 3, "factor": 0.2}})) == pytest.approx(step)
    assert rates(config()) == [0.5] * 70


def test_warmup_rises_to_the_peak_and_the_cosine_follows():
    got = rates(config(schedule="cosine", warmup_epochs=2))
    assert got[:14] == pytest.approx([0.5 * (i + 1) / 14 for i in range(14)])
    assert got[14] == 0.5
    assert got[14:] == sorted(got[14:], reverse=True)
    assert 0 < got[-1] < 0.01


def test_a_plateau_multiplies_by_its_factor_at_each_cut():
    plateau = config(schedule={"plateau": {"factor": 0.5}})
    assert [learning_rate(plateau, 9, STEPS, cuts) for cuts in range(3)] == [0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("keys", "make"),
    [
        (
            {"optimizer": "sgd", "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
            lambda w: torch.optim.SGD(w, 0.5, 0.8, nesterov=True, weight_decay=0.01),
        ),
        ({"optimizer": "sgd"}, lambda w: torch.optim.SGD(w, 0.5, 0.9)),
        (
            {"optimizer": "adam", "betas": (0.8, 0.9)},
            lambda w: torch.optim.Adam(w, 0.5, (0.8, 0.9)),
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.1},
            lambda w: torch.optim.AdamW(w, 0.5, weight_decay=0.1),
        ),
    ],
)
def test_fused_updates_of_channels_last_weights_equal_torchs_plain_ones(keys, make):
    def network():
        torch.manual_seed(0)
        model = torch.nn.Conv2d(6, 8, 3).to(memory_format=torch.channels_last)
        model.bias.requires_grad_(False)
        return model

    ours, plain = network(), network()
    optimizers = build_optimizer(config(**keys), ours), make([plain.weight])
    images = torch.rand(4, 6, 9, 9).to(memory_format=torch.channels_last)
    for _ in range(3):
        for model, optimizer in zip((ours, plain), optimizers, strict=True):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, plain.weight, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.bias, network().bias)
