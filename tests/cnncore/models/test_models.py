import pytest
import torch
from torch import nn
from torch.nn import functional

from cnncore.catalog import NETWORKS
from cnncore.complexity import ParameterCount, count_parameters
from cnncore.models import build_model
from cnncore.models.networks.mobilenet_small import GlobalAveragePool, SeparableBlock


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: with two images a second one only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def on_meta(arch, classes=10, **options):
    with torch.device("meta"):
        return build_model(arch, classes=classes, image_size=NETWORKS[arch].smallest, **options)


# Networks with a default dropout other than one half.
DROPOUT = {
    **dict.fromkeys(("alexnet_kumar", "alexnet_5x5"), 0.4),
    **dict.fromkeys(("googlenet", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"), 0.2),
    **dict.fromkeys(("efficientnet_b0", "efficientnet_b1"), 0.2),
    **dict.fromkeys(("efficientnet_b2", "efficientnet_b3"), 0.3),
}


def weight_layers(model):
    """Count parameters per convolution, BatchNorm and linear layer, in order of registration."""
    layers = [m for m in model.modules() if not any(m.children())]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    return [count for count in counts if count]


# Drawing more initial weights than this takes seconds.
MANY_WEIGHTS = 40e6


def ready(arch, classes):
    """Build a network to run; large ones get constant weights, because drawing takes seconds."""
    model = on_meta(arch, classes)
    if sum(p.numel() for p in model.parameters()) < MANY_WEIGHTS:
        torch.manual_seed(0)
        return build_model(arch, classes=classes, image_size=NETWORKS[arch].smallest)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1 / max(1, parameter[0].numel()))
    for name, buffer in model.named_buffers():
        values = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
        nn.init.constant_(buffer, values[name.rpartition(".")[2]])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("arch", NETWORKS)
def test_the_smallest_image_gives_finite_logits_and_reaches_every_parameter(arch):
    side = NETWORKS[arch].smallest
    model = ready(arch, classes=7)
    with torch.inference_mode():
        logits = model.eval()(torch.rand(2, 3, side, side))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    images, labels = torch.rand(4, 3, side, side), torch.arange(4)
    many = sum(p.numel() for p in model.parameters()) >= MANY_WEIGHTS
    if many:  # their gradients are not computed
        model, images, labels = on_meta(arch, 7), images.to("meta"), labels.to("meta")
    outputs = model.train()(images)
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        functional.cross_entropy(output, labels).backward(retain_graph=True)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert many or parameter.grad.isfinite().all(), name


def test_the_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        model = build_model("mobilenet_small", classes=10, image_size=32)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


# Layers of alexnet_kumar between its first convolution and the first dense layer, and after that.
KUMAR = (192, 614656, 512, 885120, 768, 1327488, 768, 884992, 512)
KUMAR_DENSE = (8192, 16781312, 8192, 4097000, 2000, 10010, 20)


@pytest.mark.parametrize(
    ("arch", "counts"),
    [
        ("cnn3", [280, 1820, 7240, 820480, 12810]),
        ("alexnet", [23296, 307392, 663936, 884992, 590080, 37752832, 16781312, 40970]),
        ("alexnet_cifar", [7296, 614656, 885120, 1327488, 884992, 9441280, 16781312, 40970]),
        ("alexnet_227", [34944, 614656, 885120, 1327488, 884992, 37752832, 16781312, 40970]),
        (
            "alexnet_bn",
            [
                *(34944, 192, 614656, 512, 885120, 768, 1327488, 768, 884992, 512),
                *(37752832, 16781312, 40970),
            ],
        ),
        ("alexnet_kumar", [34944, *KUMAR, 1052672, *KUMAR_DENSE]),
        ("alexnet_5x5", [7296, *KUMAR, 16781312, *KUMAR_DENSE]),
        (
            "vgg16",
            [
                *(1792, 36928, 73856, 147584, 295168, 590080, 590080, 1180160),
                *(5 * [2359808]),
                *(102764544, 16781312, 40970),
            ],
        ),
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


@pytest.mark.parametrize(
    ("arch", "parts"),
    [
        (
            "resnet18",
            {
                "conv1": (9408, 0),
                "bn1": (128, 128),
                "layer1": (147968, 512),
                "layer2": (525568, 1280),
                "layer3": (2099712, 2560),
                "layer4": (8393728, 5120),
                "fc": (5130, 0),
            },
        ),
        (
            "resnet50_keras",
            {
                "conv1": (9472, 0),
                "bn1": (128, 128),
                "layer1": (217216, 2816),
                "layer2": (1223168, 7168),
                "layer3": (7108608, 20480),
                "layer4": (14976000, 22528),
                "fc": (20490, 0),
            },
        ),
        (
            "inception_v3_keras",
            {
                "Conv2d_1a_3x3": (896, 64),
                "Conv2d_2a_3x3": (9248, 64),
                "Conv2d_2b_3x3": (18496, 128),
                "Conv2d_3b_1x1": (5200, 160),
                "Conv2d_4a_3x3": (138432, 384),
                "Mixed_5b": (255440, 928),
                "Mixed_5c": (276976, 992),
                "Mixed_5d": (284656, 992),
                "Mixed_6a": (1152640, 1280),
                "Mixed_6b": (1295872, 3072),
                "Mixed_6c": (1689280, 3456),
                "Mixed_6d": (1689280, 3456),
                "Mixed_6e": (2140032, 3840),
                "Mixed_7a": (1697024, 2560),
                "Mixed_7b": (5041344, 6528),
                "Mixed_7c": (6073536, 6528),
                "fc": (2098176 + 10250, 0),
            },
        ),
        (
            "efficientnet_b0_keras",
            {
                "features.normalization": (0, 7),
                "features.0": (928, 64),
                "features.1": (1448, 96),
                "features.2": (16714, 1056),
                "features.3": (46640, 1696),
                "features.4": (242930, 5280),
                "features.5": (543148, 7968),
                "features.6": (2026348, 18048),
                "features.7": (717232, 5248),
                "features.8": (412160, 2560),
                "classifier": (1311744 + 10250, 0),
            },
        ),
        (
            "wrn_20_10",
            {
                "input_norm": (6, 6),
                "stem": (4320, 0),
                "stages.0": (2 * 230400, 2 * 320),
                "stages.3": (460800 + 921600, 320 + 640),
                "stages.6": (1843200 + 3686400, 640 + 1280),
                "stages.8": (2 * 3686400, 2 * 1280),
                "norm": (0, 1280),
                "classifier": (6400, 20),
            },
        ),
    ],
)
def test_parts_have_the_counts_of_the_study(arch, parts):
    model = on_meta(arch)
    for name, (trainable, non_trainable) in parts.items():
        count = count_parameters(model.get_submodule(name))
        assert count == ParameterCount(trainable, non_trainable), name


@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if "activation" in n.options])
def test_sigmoid_takes_the_place_of_every_relu(arch):
    def count(model, kind):
        return sum(isinstance(module, kind) for module in model.modules())

    relu, sigmoid = on_meta(arch), on_meta(arch, activation="sigmoid")
    assert count(sigmoid, nn.ReLU) == 0
    assert count(sigmoid, nn.Sigmoid) == count(relu, nn.ReLU) > 0
    assert weight_layers(sigmoid) == weight_layers(relu)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if "dropout" in n.options])
def test_dropout_is_set_in_every_dropout_layer(arch):
    def rates(model):
        heads = [name for name, _ in model.named_modules() if name.startswith("aux")]
        layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Dropout)}
        return {layer.p for name, layer in layers.items() if name not in heads}

    assert rates(on_meta(arch, dropout=0.25)) == {0.25}
    assert rates(on_meta(arch)) == rates(on_meta(arch, dropout=None)) == {DROPOUT.get(arch, 0.5)}


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

    model_outputs, paper_outputs = model(images), as_in_the_paper(images)
    torch.testing.assert_close(model_outputs, paper_outputs, rtol=1e-6, atol=1e-6)
    for gradient, expected in zip(gradients(model_outputs), gradients(paper_outputs), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


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
    with pytest.raises(ValueError, match=r"4 numbers of 1 or 2, one for each block, got \[2, 2\]"):
        build_model("mobilenet_small", classes=10, image_size=32, strides=[2, 2])


def test_an_image_too_small_and_an_option_too_many_are_refused():
    with pytest.raises(ValueError, match="alexnet takes images of 63 pixels and more, got 32"):
        build_model("alexnet", classes=10, image_size=32)
    with pytest.raises(ValueError, match="resnet18 does not take dropout; its options: width"):
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
