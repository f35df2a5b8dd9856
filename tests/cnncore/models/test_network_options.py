import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import get_model

from cnncore.catalog import NETWORKS
from cnncore.complexity import count_parameters, measure_complexity
from cnncore.models import build_model
from cnncore.models.networks.keras import PooledConv
from cnncore.models.networks.wide_resnet import OneBitConv2d, Unit
from cnncore.models.tensorflow_padding import SameConv2d


def on_meta(arch, image_size=64, classes=10, **options):
    with torch.device("meta"):
        return build_model(arch, classes=classes, image_size=image_size, **options)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if "width" in n.options])
def test_width_scales_macs_by_about_its_square(arch):
    unscaled = on_meta(arch)
    plain, wide = (measure_complexity(m, 64).macs for m in (unscaled, on_meta(arch, width=2.0)))
    assert plain
    assert wide
    # Less if depthwise convolutions and the first layer are a large part of the cost.
    assert 3.0 < wide / plain < 4.1
    assert repr(on_meta(arch, width=1.0)) == repr(unscaled)


def test_width_of_a_resnet_is_torchvisions_but_for_the_channels():
    plain, wide = on_meta("resnet50"), on_meta("resnet50", width=0.5)
    for (name, one), (_, other) in zip(plain.named_modules(), wide.named_modules(), strict=True):
        if isinstance(one, nn.Conv2d):
            assert other.out_channels * 2 == one.out_channels, name
            assert (other.kernel_size, other.stride, other.padding, other.bias) == (
                one.kernel_size, one.stride, one.padding, None
            )  # fmt: skip
    assert wide.fc.in_features == 1024


@pytest.mark.parametrize(
    ("depth", "widths"),
    [(0.5, [64, 128]), (1.0, [32, 64, 64, 128]), (1.5, [32, 64, 64, 64, 128, 128])],
)
def test_depth_of_mobilenet_small_is_its_number_of_blocks(depth, widths):
    model = on_meta("mobilenet_small", depth=depth)
    assert [b.pointwise.out_channels for b in model if hasattr(b, "pointwise")] == widths


@pytest.mark.slow
@pytest.mark.parametrize("member", ["b0", "b1", "b2", "b3"])
def test_efficientnets_are_torchvisions(member):
    with torch.device("meta"):
        torchvision_model = get_model(f"efficientnet_{member}", num_classes=10)
    cnncore_model = on_meta(f"efficientnet_{member}")
    assert repr(cnncore_model) == repr(torchvision_model)


def test_width_and_depth_of_efficientnet_are_those_of_the_family():
    b0, b2 = on_meta("efficientnet_b0", width=1.1, depth=1.2), on_meta("efficientnet_b2")
    assert count_parameters(b0) == count_parameters(b2)


def test_fifty_layers_of_the_wide_resnet_have_the_known_counts():
    deep = {"classes": 100, "depth": 8 / 3}
    for width, trainable, non_trainable in [(1, 75_178_726, 36_366), (0.1, 757_942, 3_822)]:
        counts = count_parameters(on_meta("wrn_20_10", width=width, **deep))
        assert (counts.trainable, counts.non_trainable) == (trainable, non_trainable)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if "stem" in n.options])
def test_the_cifar_stem_keeps_the_resolution(arch):
    model = on_meta(arch, image_size=32, stem="cifar")
    layer = model.features.denseblock1 if arch == "densenet121" else model.layer1
    sides = []
    layer.register_forward_hook(lambda module, inputs, output: sides.append(inputs[0].shape[-1]))
    assert model.eval()(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 10)
    assert sides == [32]


def test_one_bit_uses_signs_and_passes_gradients_straight_through():
    torch.manual_seed(0)
    layer = OneBitConv2d(4, 6, 3, 2, bias=False)
    x = torch.randn(2, 4, 8, 8)
    signs = layer.weight.detach().sign() * (2 / (3 * 3 * 4)) ** 0.5
    signs.requires_grad_()
    expected = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), signs, stride=2)
    assert torch.equal(layer(x), expected)
    layer(x).square().sum().backward()
    expected.square().sum().backward()
    assert layer.weight.grad is not None
    assert signs.grad is not None
    assert torch.equal(layer.weight.grad, signs.grad)


def test_one_bit_is_in_every_convolution():
    model = on_meta("wrn_20_10", one_bit=True)
    assert {type(m) for m in model.modules() if isinstance(m, nn.Conv2d)} == {OneBitConv2d}
    assert count_parameters(model) == count_parameters(on_meta("wrn_20_10"))


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (11, 4)])
def test_same_padding_puts_the_odd_zero_behind(side, kernel, stride):
    # Against the definition: window i begins at i * stride minus the zeros before.
    torch.manual_seed(0)
    layer, x = SameConv2d(2, 3, kernel, stride, bias=False), torch.randn(1, 2, side, side)
    out = layer(x)
    count = -(-side // stride)
    assert out.shape == (1, 3, count, count)
    before = max((count - 1) * stride + kernel - side, 0) // 2
    padded = functional.pad(x, (before, kernel, before, kernel))
    for i in (0, count - 1):
        window = padded[..., i * stride : i * stride + kernel, :kernel]
        expected = (window * layer.weight).sum((1, 2, 3))
        torch.testing.assert_close(out[0, :, i, 0], expected)


@pytest.mark.parametrize("side", [8, 9])
def test_the_shortcut_averages_what_lies_inside_the_image(side):
    unit = Unit(2, 4, 2, SameConv2d)
    nn.init.zeros_(unit.second.weight)
    x = torch.arange(2.0 * side * side).reshape(1, 2, side, side)
    out = unit(x)
    assert not out[:, 2:].any()
    last = 2 * (out.shape[-1] - 1) - side % 2
    torch.testing.assert_close(out[0, :2, -1, -1], x[0, :, last:, last:].mean((1, 2)))


def test_averages_of_keras_inception_leave_the_padding_out():
    layer = PooledConv(1, 1, kernel_size=1).eval()
    nn.init.ones_(layer.conv.weight)
    pooled = functional.avg_pool2d(torch.ones(1, 1, 5, 5), 3, 1, 1)
    assert pooled.min() < 0.5
    torch.testing.assert_close(layer(pooled), torch.full((1, 1, 5, 5), 1 / 1.001**0.5))


def test_strides_and_norms_of_keras_resnet_are_keras():
    model = on_meta("resnet50_keras")
    first = model.layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
    norms = {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {(1.001e-5, 0.01)}


@pytest.mark.parametrize("arch", ["mobilenet_v2_keras", "efficientnet_b0_keras"])
def test_strided_convolutions_of_keras_are_padded_as_keras(arch):
    strided = [
        m for m in on_meta(arch).modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)
    ]
    assert {type(m) for m in strided} == {SameConv2d}
    assert len(strided) == 5


def test_without_weight_there_are_no_heads():
    with_heads, without = on_meta("googlenet", classes=5), on_meta("googlenet", aux_weight=0.0)
    assert count_parameters(with_heads.aux1).trainable == 2_169_093
    assert count_parameters(with_heads.aux2).trainable == 2_171_141
    assert isinstance(without.train()(torch.zeros(2, 3, 32, 32, device="meta")), torch.Tensor)
