import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights

from cnncore import complexity
from cnncore.catalog import NETWORKS, network_counts
from cnncore.complexity import (
    Complexity,
    ParameterCount,
    count_parameters,
    describe_network,
    layer_table,
    measure_complexity,
)
from cnncore.models import build_model

KNOWN = json.loads(Path(__file__).with_name("network_counts.json").read_text())


def on_meta(arch, classes, image_size, **options):
    with torch.device("meta"):
        return build_model(arch, classes=classes, image_size=image_size, **options)


def small_network():
    """Build BatchNorm, dropout and every counted type of layer, for images of 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 10),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "known", KNOWN, ids=[f"{k['arch']}-{k['image_size']}-{k['classes']}" for k in KNOWN]
)
def test_counts_are_the_known_ones(known):
    model = on_meta(known["arch"], known["classes"], known["image_size"])
    assert count_parameters(model) == ParameterCount(known["trainable"], known["non_trainable"])
    assert measure_complexity(model, known["image_size"]) == Complexity(
        known["macs"], known["activations"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if n.torchvision == a])
def test_counts_are_those_torchvision_publishes(arch):
    about = get_model_weights(arch)["IMAGENET1K_V1"]
    side = about.transforms.keywords["crop_size"]
    # torchvision counts Inception v3 with its auxiliary head, GoogLeNet without.
    heads = {"googlenet": {"aux_weight": 0.0}}
    model = on_meta(arch, 1000, side, **heads.get(arch, {}))
    assert count_parameters(model).trainable == about.meta["num_params"]
    # torchvision adds the few of squeeze-and-excitation and attention, and rounds to a million.
    macs = measure_complexity(model, side).macs
    assert macs
    assert macs / 1e9 == pytest.approx(about.meta["_ops"], abs=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("arch", NETWORKS)
def test_the_listing_has_the_counts_of_every_network(arch):
    counts = network_counts()[arch]
    model = on_meta(arch, 10, counts.image_size)
    assert ParameterCount(counts.trainable, counts.non_trainable) == count_parameters(model)
    assert counts.macs == measure_complexity(model, counts.image_size).macs


def test_a_network_by_name_is_described_as_it_is_built():
    known = next(known for known in KNOWN if known["arch"] == "resnet18")
    parameters, costs = describe_network("resnet18", classes=10, image_size=32)
    assert parameters == ParameterCount(known["trainable"], known["non_trainable"])
    assert costs == Complexity(known["macs"], known["activations"])


@pytest.mark.parametrize("arch", ["cnn3", "mobilenet_small", "resnet18", "mobilenet_v2"])
def test_macs_are_half_of_the_operations_torch_counts(arch):
    model = build_model(arch, classes=10, image_size=32).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    assert measure_complexity(model, 32).macs == counter.get_total_flops() / 2


def test_macs_and_activations_follow_the_definition():
    convolution = 6 * 4 * 4 * 3 * 9
    grouped = 6 * 2 * 2 * 2 * 9
    transposed = 6 * 2 * 2 * 4 * 4
    linear = 64 * 10
    assert measure_complexity(small_network(), 8) == Complexity(
        macs=convolution + grouped + transposed + linear,
        activations=6 * 4 * 4 + 6 * 2 * 2 + 4 * 4 * 4 + 10,
    )


def test_a_layer_used_twice_counts_twice():
    layer = nn.Conv2d(3, 3, 1)
    assert measure_complexity(nn.Sequential(layer, layer), 5).macs == 2 * 25 * 9


def test_frozen_weights_and_statistics_are_not_trainable():
    model = small_network()
    # 12 weights of the BatchNorm are trained, its 12 statistics are not, its counter is neither.
    weights = 162 + 12 + 114 + 100 + 650
    assert count_parameters(model) == ParameterCount(weights, 12)
    model[0].requires_grad_(False)
    assert count_parameters(model) == ParameterCount(weights - 162, 12 + 162)


def test_a_shared_weight_counts_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert count_parameters(nn.Sequential(first, second)).trainable == 16 + 4 + 4


@pytest.mark.parametrize("measure", [measure_complexity, layer_table])
def test_measuring_leaves_weights_statistics_modes_and_random_state(measure):
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    model = nn.Sequential(Noisy(), *small_network()).train()
    model[2].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    measure(model, 8)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_are_gone_after_a_failed_forward_pass():
    model = small_network()
    with pytest.raises(RuntimeError):
        measure_complexity(model, 9)
    assert not any(module._forward_hooks for module in model.modules())


def test_layer_table_lists_every_leaf_once_with_its_shape():
    model = build_model("mobilenet_small", classes=10, image_size=32, strides=[2, 1, 1, 1])
    rows = layer_table(model, 32)
    assert len(rows) == 3 + 4 * 5 + 3 - 1
    assert (rows[0].type, rows[0].output_shape, rows[0].trainable) == ("Conv2d", (16, 32, 32), 432)
    block = {row.name: row for row in rows if row.name.startswith("3.")}
    assert block["3.depthwise"].output_shape == (16, 16, 16)
    assert (block["3.pointwise_norm"].trainable, block["3.pointwise_norm"].non_trainable) == (
        64,
        64,
    )
    assert rows[-1].output_shape == (10,)
    total = count_parameters(model)
    assert sum(row.trainable for row in rows) == total.trainable
    assert sum(row.non_trainable for row in rows) == total.non_trainable


def test_layer_table_gives_attention_and_own_parameters_a_row_and_shared_ones_once():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 4, 3))
            self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight

        def forward(self, x):
            x = x.flatten(2).transpose(1, 2) + self.token
            x, _ = self.attention(x, x, x)
            return self.second(self.first(x)).mean(1)

    model = Own()
    rows = {row.name: row for row in layer_table(model, 2)}
    assert (rows[""].trainable, rows["second"].trainable) == (12, 3)
    # Query, key, value and output from 4 tokens of 3, scores and their sums; then 2 dense layers.
    assert rows["attention"].macs == 4 * 3 * 12 + 2 * 4 * 4 * 3
    assert (rows["first"].macs, rows["second"].macs) == (36, 36)
    assert sum(row.macs or 0 for row in rows.values()) == measure_complexity(model, 2).macs
    assert sum(row.trainable for row in rows.values()) == count_parameters(model).trainable


def test_a_layer_that_is_never_used_has_no_shape():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 2, 1), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    assert [row.output_shape for row in layer_table(Unused(), 4)] == [(2, 4, 4), None]


def test_describing_a_network_again_builds_nothing(monkeypatch):
    first = describe_network("cnn3", classes=3, image_size=32, activation="relu")
    monkeypatch.setattr(complexity, "build_model", None)
    assert describe_network("cnn3", classes=3, image_size=32, activation="relu") is first
    with pytest.raises(TypeError):
        describe_network("cnn3", classes=4, image_size=32)


def test_describing_a_network_of_the_users_own_leaves_the_random_state(monkeypatch, tmp_path):
    (tmp_path / "own_described.py").write_text(
        "from torch import nn\n"
        "def tiny(classes, width=2):\n"
        "    convolution, dense = nn.Conv2d(3, width, 2), nn.Linear(width, classes)\n"
        "    return nn.Sequential(convolution, nn.Flatten(), dense)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    random_state = torch.get_rng_state()
    parameters, costs = describe_network("own_described:tiny", classes=3, image_size=2, width=5)
    assert parameters == ParameterCount(5 * 13 + 18, 0)
    assert costs == Complexity(macs=5 * 12 + 15, activations=5 + 3)
    describe_network("mobilenet_small", classes=3, image_size=4)
    assert torch.equal(torch.get_rng_state(), random_state)


class Written(nn.Module):
    """The same 10 outputs from 192 inputs, by a function of the module and the image."""

    def __init__(self, form):
        super().__init__()
        self.weight, self.form = nn.Parameter(torch.randn(10, 192)), form

    def forward(self, x):
        return self.form(self, x)


def traced():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 10, bias=False))
    return torch.jit.trace(layers, torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize(
    "model",
    [
        Written(lambda net, x: nn.functional.linear(x.flatten(1), net.weight)),
        Written(lambda net, x: nn.functional.conv2d(x, net.weight.view(10, 3, 8, 8)).flatten(1)),
        Written(lambda net, x: torch.tensordot(x.flatten(1), net.weight.T, 1)),
        traced(),
    ],
    ids=["linear", "conv2d", "tensordot", "traced"],
)
def test_a_network_counts_the_same_however_it_is_written(model):
    assert measure_complexity(model, 8) == Complexity(1920, 10)


def test_attention_counts_on_every_device():
    layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=32, batch_first=True)
    model = Written(lambda net, x: net.layer(x.flatten(2)))
    model.layer = layer
    # 3 tokens of 64: query, key, value and output, scores and their sums, two dense layers.
    macs = 3 * 64 * (4 * 64) + 2 * 3 * 3 * 64 + 2 * 3 * 64 * 32
    for device in ("cpu", "meta"):
        assert measure_complexity(model.to(device), 8).macs == macs


@pytest.mark.parametrize(
    "form",
    [
        lambda net, x: (x.flatten(1)[:, None] * net.weight).sum(2),
        lambda net, x: torch.fft.fft2(x).real.flatten(1),
        lambda net, x: torch.from_numpy(x.flatten(1).numpy() @ net.weight.detach().numpy().T),
        lambda net, x: nn.functional.bilinear(x.mean(3), x.mean(3), net.weight.view(30, 8, 8)),
    ],
    ids=["by-hand", "fft", "numpy", "bilinear"],
)
def test_a_contraction_that_is_not_known_gives_no_number(form):
    assert measure_complexity(Written(form), 8) == Complexity(None, None)
