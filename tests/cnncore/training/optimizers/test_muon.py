"""Muon against PyTorch's Muon on reshaped kernels and its AdamW on the rest."""

from typing import Any

import pytest
import torch
from torch import nn

from cnncore.config import TrialConfig
from cnncore.models import build_model
from cnncore.training.optimizers.build import build_optimizer, set_rate
from cnncore.training.optimizers.muon import classifiers, hidden_weights
from cnncore.training.schedule import learning_rate

CONFIG: dict[str, Any] = {"arch": "x", "dataset": "digits", "lr": 0.1, "epochs": 2}


def network(*, channels_last):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 4, 1),
        nn.Flatten(),
        nn.Linear(4 * 6 * 6, 7),
        nn.ReLU(),
        nn.Linear(7, 5),
    )
    return model.to(memory_format=torch.channels_last) if channels_last else model


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {
            "momentum": 0.8,
            "nesterov": False,
            "betas": [0.8, 0.9],
            "weight_decay": 0.3,
            "decay_norm_bias": False,
            "optimizer_options": {
                "ns_steps": 3,
                "adjust_lr_fn": "match_rms_adamw",
                "adamw_ratio": 0.5,
                "adamw_eps": 1e-4,
            },
        },
    ],
)
def test_each_step_is_pytorchs_muon_on_the_reshaped_kernels_and_its_adamw_on_the_rest(
    keys, channels_last
):
    config: Any = TrialConfig(**CONFIG, **{"optimizer": "muon", "schedule": "cosine", **keys})
    ours, theirs = network(channels_last=channels_last), network(channels_last=channels_last)
    optimizer = build_optimizer(config, ours)

    # The columns of a kernel in the order of its memory: a view either way.
    kernels = {0: theirs[0].weight, 3: theirs[3].weight, 4: theirs[4].weight, 6: theirs[6].weight}
    by_memory = {i: channels_last and i in (0, 3) and w.shape[1] > 1 for i, w in kernels.items()}
    matrices = {
        i: nn.Parameter(
            (w.detach().permute(0, 2, 3, 1) if by_memory[i] else w.detach())
            .reshape(len(w), -1)
            .clone()
        )
        for i, w in kernels.items()
    }
    rest: list[Any] = [
        w for w in theirs.parameters() if all(w is not kernel for kernel in kernels.values())
    ]
    decay, options = config.weight_decay, config.optimizer_options or {}
    muon = torch.optim.Muon(
        matrices.values(),
        lr=1,
        weight_decay=decay,
        momentum=config.momentum,
        nesterov=config.nesterov,
        ns_steps=options.get("ns_steps", 5),
        adjust_lr_fn=options.get("adjust_lr_fn"),
    )
    spared = config.decay_norm_bias is False
    flat, large = [w for w in rest if w.ndim < 2], [w for w in rest if w.ndim > 1]
    groups: list[Any] = [{"params": large}]
    groups.append({"params": flat, "weight_decay": 0.0 if spared else decay})
    adamw = torch.optim.AdamW(
        groups,
        betas=config.betas,
        eps=options.get("adamw_eps", 1e-8),
        weight_decay=decay,
        fused=True,
    )
    images = torch.rand(8, 3, 8, 8)
    for step in range(1, 5):
        rate = learning_rate(config, step, 2)
        set_rate(optimizer, rate)
        for group in muon.param_groups:
            group["lr"] = rate
        for group in adamw.param_groups:
            group["lr"] = rate * options.get("adamw_ratio", 0.015)
        for model in (ours, theirs):
            model.zero_grad()
            nn.functional.cross_entropy(model(images), torch.arange(8) % 5).backward()
        for i, matrix in matrices.items():
            grad = kernels[i].grad
            grad = grad.permute(0, 2, 3, 1) if by_memory[i] else grad
            matrix.grad = grad.reshape(matrix.shape)
        for stepper in (optimizer, muon, adamw):
            stepper.step()
        for i, matrix in matrices.items():
            values = matrix.detach()
            if by_memory[i]:
                n, inputs, height, width = kernels[i].shape
                values = values.view(n, height, width, inputs).permute(0, 3, 1, 2)
            kernels[i].data.copy_(values.reshape(kernels[i].shape))
        for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other), (step, name)
    assert not torch.equal(ours[0].weight, network(channels_last=channels_last)[0].weight)


@pytest.mark.parametrize(
    ("arch", "size", "last"),
    [
        ("resnet18", 32, {"fc.weight"}),
        ("cnn3", 32, None),
        ("googlenet", 64, {"fc.weight", "aux1.fc2.weight", "aux2.fc2.weight"}),
        ("vgg11", 32, {"classifier.6.weight"}),
        ("mobilenet_small", 32, None),
    ],
)
def test_kernels_and_hidden_layers_go_to_muon_and_classifiers_do_not(arch, size, last):
    with torch.device("meta"):
        model = build_model(arch, classes=10, image_size=size)
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {names[id(layer.weight)] for layer in classifiers(model)}
    assert last is None or found == last
    assert all(layer.out_features == 10 for layer in classifiers(model))
    muon = {names[id(weight)] for weight in hidden_weights(model)}
    large = {name for name, weight in model.named_parameters() if weight.ndim > 1}
    assert muon == large - found


def test_a_network_without_hidden_weights_is_refused():
    config = TrialConfig(**CONFIG, optimizer="muon")
    with pytest.raises(ValueError, match="none of them is trainable; use adamw"):
        build_optimizer(config, nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
