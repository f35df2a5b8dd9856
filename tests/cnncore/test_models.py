import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from cnncore.catalog import NETWORKS
from cnncore.models import build_model
from cnncore.models.mobilenet_small import GlobalAveragePool, SeparableBlock


@functools.cache
def built(arch):
    """One network per name: drawing AlexNet's weights takes a second."""
    torch.manual_seed(0)
    return build_model(arch, classes=7, image_size=NETWORKS[arch].smallest)


def on_meta(arch, classes=10, **options):
    with torch.device("meta"):
        return build_model(arch, classes=classes, image_size=NETWORKS[arch].smallest, **options)


def weight_layers(model):
    """Parameters of each convolution, BatchNorm and linear layer, in the order of registration."""
    layers = [m for m in model.modules() if not any(m.children())]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    return [count for count in counts if count]


@pytest.mark.parametrize("arch", NETWORKS)
def test_forward_gives_finite_logits_for_every_class(arch):
    side, model = NETWORKS[arch].smallest, built(arch).eval()
    with torch.inference_mode():
        logits = model(torch.rand(2, 3, side, side))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("arch", NETWORKS)
def test_backward_reaches_every_parameter(arch):
    side = NETWORKS[arch].smallest
    model = built(arch).train()
    model.zero_grad()
    functional.cross_entropy(model(torch.rand(4, 3, side, side)), torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        model = build_model("mobilenet_small", classes=10, image_size=32)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("arch", "counts"),
    [
        ("cnn3", [280, 1820, 7240, 820480, 12810]),
        ("alexnet", [23296, 307392, 663936, 884992, 590080, 37752832, 16781312, 40970]),
        ("alexnet_cifar", [7296, 614656, 885120, 1327488, 884992, 9441280, 16781312, 40970]),
        (
            "mobilenet_small",
            [
                *(432, 32),
                *(144, 32, 512, 64),
                *(288, 64, 2048, 128),
                *(576, 128, 4096, 128),
                *(576, 128, 8192, 256),
                1290,
            ],
        ),
    ],
)
def test_layers_have_the_parameters_the_papers_print_in_their_order(arch, counts):
    assert weight_layers(on_meta(arch)) == counts


@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if "activation" in n.options])
def test_sigmoid_takes_the_place_of_every_relu(arch):
    def count(model, kind):
        return sum(isinstance(module, kind) for module in model.modules())

    relu, sigmoid = on_meta(arch), on_meta(arch, activation="sigmoid")
    assert count(sigmoid, nn.ReLU) == 0
    assert count(sigmoid, nn.Sigmoid) == count(relu, nn.ReLU) > 0
    assert weight_layers(sigmoid) == weight_layers(relu)


@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if "dropout" in n.options])
def test_dropout_is_set_in_every_dropout_layer(arch):
    def rates(model):
        return {m.p for m in model.modules() if isinstance(m, nn.Dropout)}

    assert rates(on_meta(arch, dropout=0.25)) == {0.25}
    assert (
        rates(on_meta(arch))
        == rates(on_meta(arch, dropout=None))
        == {0.2 if arch == "mobilenet_v2" else 0.5}
    )


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="relu or sigmoid, got 'tanh'"):
        on_meta("cnn3", activation="tanh")


@pytest.mark.parametrize("name", ["relu", "sigmoid"])
def test_pooling_before_the_activation_changes_neither_outputs_nor_gradients(name):
    torch.manual_seed(0)
    activation = torch.relu if name == "relu" else torch.sigmoid
    model = build_model("cnn3", classes=10, image_size=32, activation=name)
    assert isinstance(model, nn.Sequential)
    layers = list(model)
    images = torch.randn(4, 3, 32, 32)

    def as_in_the_paper(x):
        convolutions = [m for m in layers if isinstance(m, nn.Conv2d)]
        dense = [m for m in layers if isinstance(m, nn.Linear)]
        for convolution in convolutions:
            x = functional.max_pool2d(activation(convolution(x)), 2)
        return dense[1](activation(dense[0](x.flatten(1))))

    def gradients(logits):
        return torch.autograd.grad(logits.square().sum(), list(model.parameters()))

    ours, papers = model(images), as_in_the_paper(images)
    torch.testing.assert_close(ours, papers, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(gradients(ours), gradients(papers), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_both_convolutions_of_a_separable_block_are_normalised_and_rectified():
    torch.manual_seed(0)
    block = SeparableBlock(16, 32, 1, "relu")
    x = torch.randn(2, 16, 8, 8)
    middle = functional.batch_norm(block.depthwise(x), None, None, training=True).relu()
    out = functional.batch_norm(block.pointwise(middle), None, None, training=True).relu()
    torch.testing.assert_close(block(x), out)


def test_the_global_average_pool_keeps_gradients_channels_last():
    x = torch.randn(2, 8, 5, 5).to(memory_format=torch.channels_last).requires_grad_()
    pooled = GlobalAveragePool()(x)
    torch.testing.assert_close(pooled, functional.adaptive_avg_pool2d(x, 1).flatten(1))
    layouts = []
    x.register_hook(lambda g: layouts.append(g.is_contiguous(memory_format=torch.channels_last)))
    pooled.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 25))
    assert layouts == [True]


def test_strides_of_mobilenet_small_shrink_the_maps_and_keep_the_parameters():
    strided = build_model("mobilenet_small", classes=10, image_size=32, strides=[1, 2, 1, 2])
    assert isinstance(strided, nn.Sequential)
    assert strided[:7](torch.zeros(1, 3, 32, 32)).shape == (1, 128, 8, 8)
    assert weight_layers(strided) == weight_layers(on_meta("mobilenet_small"))
    with pytest.raises(ValueError, match=r"four numbers of 1 or 2, got \[2, 2\]"):
        build_model("mobilenet_small", classes=10, image_size=32, strides=[2, 2])


def test_an_image_too_small_and_an_option_too_many_are_refused():
    with pytest.raises(ValueError, match="alexnet takes images of 63 pixels and more, got 32"):
        build_model("alexnet", classes=10, image_size=32)
    with pytest.raises(ValueError, match="resnet18 does not take dropout; its options: none"):
        build_model("resnet18", classes=10, image_size=32, dropout=0.5)
    with pytest.raises(ValueError, match="unknown architecture 'alexnt'"):
        build_model("alexnt", classes=10, image_size=64)


OWN_NETWORKS = """
from torch import nn

def plain(classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

def sized(classes, image_size, width=4):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3 * image_size**2, width), nn.Linear(width, classes)
    )

def any_option(classes, **options):
    model = plain(classes)
    model.options = options
    return model

def not_a_network(classes):
    return classes
"""


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN_NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_networks", raising=False)


@pytest.mark.usefixtures("own_networks")
def test_a_network_of_the_users_own_gets_what_it_takes():
    images = torch.zeros(2, 3, 8, 8)
    for name, width in [("plain", None), ("sized", 5), ("sized", None)]:
        model = build_model(f"own_networks:{name}", classes=3, image_size=8, width=width)
        assert model(images).shape == (2, 3)
    model = build_model("own_networks:any_option", classes=3, image_size=8, depth=2)
    assert model.options == {"depth": 2, "image_size": 8}


@pytest.mark.usefixtures("own_networks")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("plain", {"width": 5}, "does not take width; it takes classes"),
        ("missing", {}, "module own_networks has no function missing"),
        ("not_a_network", {}, r"must return a torch.nn.Module, got int"),
    ],
)
def test_a_network_of_the_users_own_that_does_not_fit_is_explained(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(f"own_networks:{name}", classes=3, image_size=8, **options)


def test_a_module_that_is_not_there_is_explained():
    with pytest.raises(ValueError, match=r"No module named 'cnncore.nowhere'.*PYTHONPATH"):
        build_model("cnncore.nowhere:tiny", classes=3, image_size=8)
