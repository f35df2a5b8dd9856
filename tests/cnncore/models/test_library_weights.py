"""Pre-trained weights of libraries' networks, from files like those that the libraries publish."""

import re
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from cnncore.models import build_model
from cnncore.models.libraries.published import published_file, with_positions
from cnncore.models.pretrained import check_fit, load_pretrained
from cnncore.models.pretrained_source import IMAGENET, WeightsError, fingerprint

VIT = "vit_tiny_patch16_224"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Put the libraries' caches into an empty folder."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    return tmp_path


def put_torch(caches, url, state):
    path = caches / "torch" / "checkpoints" / Path(url).name
    torch.save(state, path)
    return path


def put_hub(caches, repository, state):
    """Write a file as `hf download` lays it out."""
    folder = caches / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    path = folder / "snapshots" / "abc" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def loaded(arch, side, classes=10, **options):
    torch.manual_seed(5)
    model = build_model(arch, classes=classes, image_size=side, **options)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    names = load_pretrained(model, arch, IMAGENET, image_size=side, options=options)
    return model, fresh, names


@pytest.mark.parametrize(
    ("arch", "parts"),
    [
        (
            "torchvision:resnet50",
            ["put resnet50-0676ba61.pth from https://", "torch/checkpoints, or give the path"],
        ),
        ("torchvision:resnet50.IMAGENET1K_V2", ["put resnet50-11ad3fa6.pth from"]),
        (
            "timm:resnet18.a2_in1k",
            [
                "run `hf download timm/resnet18.a2_in1k model.safetensors` where there is",
                "copy models--timm--resnet18.a2_in1k into",
                "or put resnet18_a2_0-b61bd467.pth from https://",
            ],
        ),
        (f"timm:{VIT}", [f"copy models--timm--{VIT}.augreg_in21k_ft_in1k into"]),
        ("timm:test_vit3.r160_in1k", ["models--timm--test_vit3.r160_in1k"]),
        ("timm:vgg11.tv_in2k", ["has no weights 'tv_in2k' (closest: tv_in1k)"]),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_place(arch, parts, monkeypatch):
    monkeypatch.setattr("socket.socket", None)  # nothing is downloaded
    with pytest.raises(WeightsError) as error:
        published_file(arch)
    for part in parts:
        assert part in str(error.value)


def test_torchvisions_file_gives_all_but_the_last_layer(caches):
    state = get_model("mobilenet_v3_small").state_dict()
    put_torch(caches, get_model_weights("mobilenet_v3_small").IMAGENET1K_V1.url, state)
    model, fresh, names = loaded("torchvision:mobilenet_v3_small", 32)
    head = {"classifier.3.weight", "classifier.3.bias"}
    assert names == state.keys() - head
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh[name] if name in head else state[name]), name


def test_torchvisions_transformer_gets_positions_for_other_sides():
    small = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    trained = VisionTransformer(image_size=64, patch_size=32, **small)
    state = {k: torch.randn_like(v) for k, v in trained.state_dict().items()}
    model = VisionTransformer(image_size=96, patch_size=32, **small)
    got = with_positions(state, model, 96)["encoder.pos_embedding"]
    expected = interpolate_embeddings(96, 32, dict(state))["encoder.pos_embedding"]
    assert got.shape == (1, 10, 8)
    assert torch.equal(got, expected)


def test_torchvisions_old_names_of_densenets_are_read(caches):
    state = get_model("densenet121").state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", k): v for k, v in state.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    put_torch(caches, get_model_weights("densenet121").IMAGENET1K_V1.url, old)
    for arch in ("torchvision:densenet121", "densenet121"):
        model, _, names = loaded(arch, 32)
        assert names == state.keys() - {"classifier.weight", "classifier.bias"}
        name = "features.denseblock4.denselayer16.conv2.weight"
        assert torch.equal(model.state_dict()[name], state[name])


def test_timms_file_is_converted_as_timm_does(caches):
    trained = timm.create_model(VIT, depth=1)
    path = put_hub(caches, f"timm/{VIT}.augreg_in21k_ft_in1k", trained.state_dict())
    model, fresh, names = loaded(f"timm:{VIT}", 32, depth=1)
    expected = timm.create_model(
        VIT, pretrained=True, num_classes=10, img_size=32, depth=1,
        pretrained_cfg_overlay={"file": str(path)},
    )  # fmt: skip
    head = {"head.weight", "head.bias"}
    assert names == fresh.keys() - head
    assert model.state_dict()["pos_embed"].shape == (1, 5, 192)  # from 14 x 14 patches to 2 x 2
    for name, value in expected.state_dict().items():
        got = model.state_dict()[name]
        assert torch.equal(got, fresh[name] if name in head else value), name
    # By its path it is the same file.
    again = build_model(f"timm:{VIT}", classes=10, image_size=32, depth=1)
    of_file = load_pretrained(again, f"timm:{VIT}", str(path), image_size=32, options={"depth": 1})
    assert of_file == names
    assert torch.equal(again.state_dict()["pos_embed"], model.state_dict()["pos_embed"])


def test_a_published_file_is_converted_even_if_its_names_fit(caches, monkeypatch):
    name = "test_vit.r160_in1k"
    state = timm.create_model("test_vit").state_dict()
    path = put_hub(caches, f"timm/{name}", state)
    monkeypatch.setattr(
        "timm.models.vision_transformer.checkpoint_filter_fn",
        lambda weights, model: {key: 2 * value for key, value in weights.items()},
    )
    model, _, _ = loaded(f"timm:{name}", 160)
    assert torch.equal(model.state_dict()["pos_embed"], 2 * state["pos_embed"])
    load_pretrained(model, f"timm:{name}", str(path), image_size=160)
    assert torch.equal(model.state_dict()["pos_embed"], state["pos_embed"])


def test_timms_file_in_pytorchs_cache_counts_too_and_a_tag_selects(caches):
    about = timm.get_pretrained_cfg("resnet18.a2_in1k")
    state = timm.create_model("resnet18").state_dict()
    path = put_torch(caches, about.url, state)
    with pytest.raises(WeightsError, match="not on this machine"):
        published_file("timm:resnet18.a1_in1k")
    assert published_file("timm:resnet18.a2_in1k") == path
    model, _, names = loaded("timm:resnet18.a2_in1k", 32, classes=1000)
    assert names == state.keys()
    assert torch.equal(model.fc.weight, state["fc.weight"])


def test_files_that_do_not_fit_or_are_not_finite_are_refused(caches):
    about = timm.get_pretrained_cfg("resnet18.a1_in1k")
    state = timm.create_model("resnet18").state_dict()
    path = put_torch(caches, about.url, {k: v for k, v in state.items() if k != "conv1.weight"})
    with pytest.raises(WeightsError, match=r"does not fit: .*conv1\.weight"):
        check_fit("timm:resnet18", 32, {}, str(path), published=True)
    with pytest.raises(WeightsError, match="nor as a file that timm publishes"):
        check_fit("timm:resnet18", 32, {}, str(path))
    state["fc.bias"][0] = float("nan")
    put_torch(caches, about.url, state)
    with pytest.raises(WeightsError, match=r"fc\.bias has values that are not finite"):
        check_fit("timm:resnet18", 32, {}, str(path), published=True)
    model = build_model("timm:resnet18", classes=10, image_size=32)
    with pytest.raises(WeightsError, match="has changed since the sweep was planned"):
        load_pretrained(model, "timm:resnet18", IMAGENET, "0" * 16, image_size=32)
    assert len(fingerprint(path)) == 16
