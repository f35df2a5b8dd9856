import importlib
import inspect
import subprocess
import sys

import pytest
import torch

from cnncore.catalog import DATASETS, NETWORKS, check_network
from cnncore.models import build_model


def load(path):
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def test_reading_the_catalog_loads_neither_torch_nor_torchvision():
    code = (
        "import sys, cnncore.catalog as c; c.check_network('torch.nn:Linear', 32, {});"
        "sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("arch", NETWORKS)
def test_the_options_in_the_catalog_are_those_of_the_network(arch):
    parameters = inspect.signature(load(NETWORKS[arch].build)).parameters
    given = ("network", "classes", "image_size")
    assert tuple(name for name in parameters if name not in given) == NETWORKS[arch].options


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_has_its_function(dataset):
    assert callable(load(DATASETS[dataset].load))


@pytest.mark.slow
@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if n.smallest > 1])
def test_a_network_fails_one_pixel_below_its_smallest_image(arch):
    # On `meta`: shapes are checked and no weight is drawn.
    with torch.device("meta"):
        side = NETWORKS[arch].smallest
        model = build_model(arch, classes=10, image_size=side).eval()
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 10)
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, 3, side - 1, side - 1))


@pytest.mark.parametrize("arch", [a for a, n in NETWORKS.items() if n.largest])
def test_a_network_fails_one_pixel_above_its_largest_image(arch):
    side = NETWORKS[arch].largest
    assert side is not None
    with torch.device("meta"):
        model = build_model(arch, classes=10, image_size=side).eval()
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 10)
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, 3, side + 1, side + 1))


@pytest.mark.parametrize(
    ("arch", "image_size", "options", "problem"),
    [
        ("alexnet", 63, {"dropout": 0.1, "activation": None}, None),
        ("alexnet", 32, {}, "alexnet takes images of 63 pixels and more, got 32"),
        ("cnn3", 40, {}, "cnn3 takes images of 32 to 39 pixels, got 40"),
        (
            "cnn3",
            32,
            {"dropout": 0.5},
            "cnn3 does not take dropout; its options: activation",
        ),
        ("convnext_tiny", 32, {"width": 2}, "does not take width; its options: none"),
        ("resnet18", 32, {"one_bit": True}, "does not take one_bit; its options: width, stem"),
        ("resnet18", 32, {"one_bit": None}, None),
        ("torchvision.models:vgg11", 32, {"anything": 1}, None),
        ("torchvision.models:vgg11", 1, {"classes": 5}, "vgg11: classes is given by cnngrid"),
        ("no_such_package.nets:tiny", 32, {}, "no module named no_such_package"),
        ("json:", 32, {}, "must be a known name or package.module:function"),
        ("../nets.py:tiny", 32, {}, "must be a known name or package.module:function"),
    ],
)
def test_check_network_says_what_is_wrong(arch, image_size, options, problem):
    message = check_network(arch, image_size, options)
    assert message is problem is None or problem in str(message)


def test_an_unknown_architecture_gets_the_closest_name_and_all_of_them():
    problem = str(check_network("resnet81", 32, {}))
    assert "closest: resnet18" in problem
    assert ", ".join(sorted(NETWORKS)) in problem
