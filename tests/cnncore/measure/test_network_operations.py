"""Operations counted on `meta`, against the counts of a real forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cnncore.complexity import describe_network, network_operations
from cnncore.measure.network_operations import count_operations


@pytest.mark.parametrize(
    ("arch", "side", "options"),
    [
        ("cnn3", 32, {}),
        ("mobilenet_small", 32, {}),
        ("resnet18", 32, {}),
        ("shufflenet_v2_x0_5", 32, {}),
        ("convnext_tiny", 32, {}),
    ],
)
def test_products_and_weights_are_those_of_a_real_pass(arch, side, options) -> None:
    parameters, complexity = describe_network(arch, classes=7, image_size=side, **options)
    network = network_operations(arch, classes=7, image_size=side, **options)
    assert sum(op.macs for op in network.operations) == complexity.macs
    assert network.trainable == parameters.trainable
    assert network.elements == parameters.trainable + parameters.non_trainable
    assert complexity.activations is not None
    # A network keeps at least what its convolutions and linear layers wrote.
    assert network.activation_bytes >= 4 * complexity.activations


def test_an_operation_tells_what_it_moves_and_which_gradients_it_needs() -> None:
    with torch.device("meta"):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False),
            nn.Flatten(),
            nn.Linear(8 * 16, 10),
        )
    first, norm, relu, depthwise, linear = count_operations(model, 4).operations
    assert (first.kind, first.macs, first.weight_bytes) == ("convolution", 16 * 8 * 27, 4 * 216)
    assert (first.read_bytes, first.written_bytes) == (4 * 3 * 16, 4 * 8 * 16)
    # Nothing needs the gradient of the images.
    assert [op.gradients for op in (first, norm, depthwise, linear)] == [1, 2, 2, 2]
    assert (norm.kind, relu.kind, relu.gradients) == ("heavy", "pass", 1)
    assert (depthwise.kind, depthwise.macs) == ("depthwise_large", 16 * 8 * 25)
    assert (linear.kind, linear.macs) == ("product", 8 * 16 * 10)


def test_frozen_features_need_no_gradient() -> None:
    whole = network_operations("resnet18", classes=10, image_size=32)
    frozen = network_operations("resnet18", classes=10, image_size=32, freeze=True)
    assert frozen.elements == whole.elements
    assert frozen.trainable == 512 * 10 + 10
    assert [op.kind for op in frozen.operations if op.gradients] == ["product"]
    assert frozen.activation_bytes == 4 * 10


def test_a_network_that_needs_values_is_measured_instead(tmp_path, monkeypatch) -> None:
    (tmp_path / "looks.py").write_text(
        "from torch import nn\n"
        "class Looks(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Conv2d(3, classes, 4)\n"
        "    def forward(self, x):\n"
        "        if float(x.sum()) > 1e9:\n"  # `meta` has no values
        "            return None\n"
        "        return self.layer(x).flatten(1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = network_operations("looks:Looks", classes=5, image_size=4)
    (whole,) = network.operations
    assert whole.macs == 3 * 4 * 4 * 5
    assert network.trainable == 3 * 4 * 4 * 5 + 5
