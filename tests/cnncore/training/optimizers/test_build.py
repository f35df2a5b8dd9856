"""Optimizers and their groups against PyTorch's own and against hand computations."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cnncore.config import TrialConfig
from cnncore.training.optimizers.build import build_optimizer
from cnncore.training.optimizers.groups import l2_names


def config(**keys):
    keys = {"optimizer": "sgd", "epochs": 10, **keys}
    return TrialConfig(arch="cnn3", dataset="digits", lr=0.5, **keys)


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

    built_model, plain = network(), network()
    optimizers = build_optimizer(config(**keys), built_model), make([plain.weight])
    images = torch.rand(4, 6, 9, 9).to(memory_format=torch.channels_last)
    for _ in range(3):
        for model, optimizer in zip((built_model, plain), optimizers, strict=True):
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(built_model.weight, plain.weight, rtol=1e-4, atol=1e-5)
    assert torch.equal(built_model.bias, network().bias)


def steps(optimizer, weight, gradients, rates):
    """Return the weight after each step with the given gradients and learning rates."""
    out = []
    for gradient, rate in zip(gradients, rates, strict=True):
        weight.grad = torch.tensor([gradient])
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        out.append(weight.item())
    return out


def test_averaging_momentum_equals_a_hand_computation_under_a_changing_rate():
    # v = 0.9 v + 0.1 g; w = w - lr v, from w = 1 and v = 0.
    # g = 2: v = 0.2, w = 0.9; g = -1: v = 0.08, w = 0.884; g = 4: v = 0.472, w = 0.412;
    # g = 0: v = 0.4248, w = 0.36952.
    gradients, changing = [2.0, -1.0, 4.0, 0.0], [0.5, 0.2, 1.0, 0.1]
    model = nn.ParameterList([nn.Parameter(torch.ones(1))])
    optimizer = build_optimizer(config(momentum_form="average"), model)
    weights = steps(optimizer, model[0], gradients, changing)
    assert weights == pytest.approx([0.9, 0.884, 0.412, 0.36952])

    plain = nn.Parameter(torch.ones(1))
    tenth = [rate * (1 - 0.9) for rate in changing]
    expected = steps(torch.optim.SGD([plain], 0.5, 0.9), plain, gradients, tenth)
    assert weights == pytest.approx(expected)


def test_momentum_forms_of_pytorch_and_without_momentum_change_no_config():
    assert config(momentum_form="sum") == config()
    adam = config(optimizer="adam", momentum_form="average")
    assert adam == config(optimizer="adam")
    with pytest.raises(ValidationError, match="leave nesterov out"):
        config(momentum_form="average", nesterov=True)


def penalized_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(18, 5)
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_l2_steps_as_the_gradient_of_the_explicit_penalty(optimizer):
    l2, decay = 0.3, 0.05
    built_model, explicit = penalized_network(), penalized_network()
    plain = {
        "sgd": lambda w: torch.optim.SGD(w, 0.5, 0.9, weight_decay=decay),
        "adam": lambda w: torch.optim.Adam(w, 0.5, weight_decay=decay),
    }[optimizer](explicit.parameters())
    settings = config(optimizer=optimizer, l2=l2, weight_decay=decay)
    built = build_optimizer(settings, built_model, pretrained={"2.weight", "4.weight"})
    images = torch.rand(6, 3, 7, 7)
    for _ in range(3):
        for model, stepper in ((built_model, built), (explicit, plain)):
            stepper.zero_grad()
            loss = model(images).square().mean()
            if model is explicit:
                loss = loss + l2 * (model[0].weight.square().sum() + model[4].weight.square().sum())
            loss.backward()
            stepper.step()
    for name, weight in built_model.named_parameters():
        torch.testing.assert_close(weight, explicit.get_parameter(name), rtol=1e-4, atol=1e-5)
    assert l2_names(built_model) == {"0.weight", "2.weight", "4.weight"}


def test_l2_is_refused_where_weight_decay_is_decoupled():
    with pytest.raises(ValidationError, match="use weight_decay under"):
        config(optimizer="adamw", l2=0.01)
