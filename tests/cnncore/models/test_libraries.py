"""Networks of torchvision and timm by name: as the library builds them, refused with a reason."""

import subprocess
import sys

import pytest
import timm
import torch
from torch import nn
from torchvision.models import get_model

from cnncore.catalog import check_network
from cnncore.complexity import count_parameters
from cnncore.functions import check_function_name
from cnncore.models import build_model
from cnncore.models.classifier_head import freeze_features
from cnncore.models.image_sides import describe_sides
from cnncore.models.libraries.check import check_library_network
from cnncore.models.on_meta import build_on_meta


def on_meta(arch, side, **options):
    return build_on_meta(lambda: build_model(arch, classes=5, image_size=side, **options))


@pytest.mark.parametrize(
    ("arch", "options", "build"),
    [
        (
            "timm:vit_tiny_patch16_224",
            {"drop_path_rate": 0.1, "depth": 1},
            lambda: timm.create_model(
                "vit_tiny_patch16_224", num_classes=5, img_size=32, drop_path_rate=0.1, depth=1
            ),
        ),
        (
            "torchvision:mobilenet_v3_small",
            {"dropout": 0.3},
            lambda: get_model("mobilenet_v3_small", num_classes=5, dropout=0.3),
        ),
        (
            "torchvision:googlenet",
            {"aux_weight": 0.0},
            lambda: get_model("googlenet", num_classes=5, aux_logits=False, init_weights=True),
        ),
    ],
)
def test_a_network_has_the_weights_that_its_library_draws(arch, options, build):
    torch.manual_seed(1)
    model = build_model(arch, classes=5, image_size=32, **options).eval()
    torch.manual_seed(1)
    expected = build().eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(image), expected(image))


def test_auxiliary_heads_train_with_their_weight_and_are_left_out_without():
    images = torch.zeros(2, 3, 32, 32, device="meta")
    assert len(on_meta("torchvision:googlenet", 32, aux_weight=0.3).train()(images)) == 3
    assert on_meta("torchvision:googlenet", 32, aux_weight=0.0).train()(images).shape == (2, 5)


@pytest.mark.parametrize(
    ("arch", "side", "options", "problem"),
    [
        ("timm:resnet18", 32, {"drop_rate": 0.1, "dropout": None}, None),
        ("timm:resnet18.a1_in1k", 32, {}, None),
        (
            "timm:resnet18.",
            32,
            {},
            "ends in a dot without the name of weights; write timm:resnet18",
        ),
        ("timm:resnet81", 32, {}, "unknown network 'resnet81' of timm (closest: resnet18)"),
        (
            "timm:resnet18.a9_in1k",
            32,
            {},
            "no weights 'a9_in1k' (closest: a3_in1k); it has a1_in1k",
        ),
        ("timm:convnext_tiny_in22ft1k", 32, {}, "write timm:convnext_tiny.fb_in22k_ft_in1k"),
        ("timm:resnet18", 32, {"drop_rat": 1}, "does not take drop_rat (closest: drop_rate); its"),
        ("timm:resnet18", 32, {"num_classes": 1}, "num_classes is given by cnngrid"),
        ("timm:resnet18", 32, {"aux_weight": 0.3}, "has no auxiliary heads"),
        # These pass unknown options on to a dict and to nothing.
        (
            "timm:ese_vovnet19b_slim",
            32,
            {"nonsense": 1},
            "does not take nonsense; its options: act",
        ),
        (
            "torchvision:convnext_tiny",
            32,
            {"nonsense": 1},
            "does not take nonsense; its options: b",
        ),
        ("torchvision:resnet18", 32, {"width": 2.0}, "does not take width; its options: groups"),
        ("torchvision:resnet19", 32, {}, "'resnet19' of torchvision (closest: resnet18)"),
        ("torchvision:vit_b_32", 32, {}, None),
        (
            "torchvision:vit_b_32",
            40,
            {},
            "of 40 pixels; the nearest sides that it takes are 32 and",
        ),
        ("torchvision:alexnet", 32, {}, "of 32 pixels; it needs images of at least 63 pixels"),
        ("torchvision:regnet_x_400mf", 32, {}, None),
        ("timm:test_vit", 4, {}, "it takes images of 16, 32, 48, 64 pixels, not of every side"),
    ],
)
def test_names_options_and_sides_are_checked_without_computing(arch, side, options, problem):
    found = check_library_network(arch, side, options)
    assert found is problem is None or problem in str(found)


@pytest.mark.parametrize(
    ("fitting", "asked", "text"),
    [
        (lambda side: side >= 63, 32, "it needs images of at least 63 pixels"),
        (lambda side: 32 <= side < 40, 40, "it takes images of 32 to 39 pixels"),
        (lambda side: side <= 38, 64, "it takes images of at most 38 pixels"),
        (lambda side: side == 224, 32, "it takes images of 224 pixels only"),
        (lambda side: side == 30, 32, "it takes images of 30 pixels only"),
        (lambda side: side % 14 == 0, 32, "the nearest sides that it takes are 28 and 42 pixels"),
        (lambda side: side % 224 == 0, 32, "images of 224, 448 pixels, not of every side"),
        (lambda side: False, 32, "None"),
    ],
)
def test_sides_are_described_by_what_fits(fitting, asked, text):
    assert text in str(describe_sides(fitting, asked))


def test_a_module_that_is_named_like_a_library_is_refused(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("def tiny(classes): pass\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from cnncore.catalog import check_network; "
        "print(check_network('timm:tiny', 32, {}), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert "timm.py is found instead of the library timm" in done.stdout
    assert "my_timm.py False" in done.stdout
    assert "rename your module, such as my_csv.py" in str(check_function_name("csv:tiny"))
    assert check_function_name("timm.models:resnet18") is None


def test_a_library_that_is_not_installed_is_said_how_to_get(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "cnngrid[timm]"' in str(check_network("timm:resnet18", 32, {}))


@pytest.mark.parametrize(
    ("arch", "trained"),
    [
        ("timm:test_vit", {"head.weight", "head.bias"}),
        ("timm:test_byobnet", {"head.fc.weight", "head.fc.bias"}),
        ("torchvision:vit_b_32", {"heads.head.weight", "heads.head.bias"}),
        ("torchvision:swin_t", {"head.weight", "head.bias"}),
    ],
)
def test_frozen_features_leave_the_layer_that_classifies(arch, trained):
    model = on_meta(arch, 32)
    freeze_features(model)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained


def test_parameters_go_to_meta_one_by_one_where_building_reads_numbers():
    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            weight = nn.Parameter(torch.ones(2, int(torch.ones(3).sum())))
            self.first, self.second = nn.Linear(3, 2), nn.Linear(3, 2)
            self.first.weight = self.second.weight = weight

    model = build_on_meta(Reading)
    assert model.first.weight is model.second.weight
    assert count_parameters(model).trainable == 6 + 2 + 2
    assert all(p.is_meta for p in model.parameters())
    assert not nn.Linear(1, 1).weight.is_meta
