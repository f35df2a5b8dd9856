import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torchvision.models import get_model, get_model_weights

from cnncore.catalog import NETWORKS
from cnncore.complexity import count_parameters
from cnncore.models import build_model
from cnncore.models.classifier_head import feature_norms, freeze_features, head_names
from cnncore.models.pretrained import check_fit, load_pretrained
from cnncore.models.pretrained_source import IMAGENET, WeightsError, check_imagenet, fingerprint


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: with two images a second one only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(arch, classes=10, **options):
    side = max(32, NETWORKS[arch].smallest)
    return build_model(arch, classes=classes, image_size=side, **options)


def saved(tmp_path, payload):
    path = tmp_path / "weights.pth"
    torch.save(payload, path)
    return str(path)


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Fill torchvision's download cache with fresh weights instead of the trained ones."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def put(network):
        options = {"init_weights": True} if network in ("inception_v3", "googlenet") else {}
        state = get_model(network, weights=None, **options).state_dict()
        url = get_model_weights(network)["IMAGENET1K_V1"].url
        torch.save(state, tmp_path / "checkpoints" / Path(url).name)
        return state

    return put


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_gives_the_network_its_weights(tmp_path, wrapped):
    trained, model = build("mobilenet_small"), build("mobilenet_small")
    state = trained.state_dict()
    path = saved(tmp_path, {"weights": state} if wrapped else state)
    load_pretrained(model, "mobilenet_small", path, fingerprint(path))
    assert equal(model.state_dict(), state)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", ["cnn3", "wrn_20_10", "alexnet_kumar", "googlenet", "squeezenet1_1"]
)
def test_other_classes_leave_only_the_last_layers_fresh(tmp_path, arch):
    small = {"width": 0.05} if arch == "wrn_20_10" else {}
    trained, model = build(arch, classes=7, **small), build(arch, classes=5, **small)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_pretrained(model, arch, saved(tmp_path, trained.state_dict()))
    for name, value in model.state_dict().items():
        of_file = trained.state_dict()[name]
        fits = value.shape == of_file.shape
        assert torch.equal(value, of_file if fits else before[name]), name
        assert fits or (value.shape[0], of_file.shape[0]) == (5, 7), name


def test_shapes_that_do_not_fit_are_named_both(tmp_path):
    path = saved(tmp_path, build("mobilenet_small", width=2.0).state_dict())
    with pytest.raises(
        WeightsError, match=r"0\.weight is 32x3x3x3, the network wants 16x3x3x3.*and \d+ more"
    ):
        check_fit("mobilenet_small", 32, {}, path)
    with pytest.raises(WeightsError, match=r"0\.weight is not in the network|0\.bias is not in"):
        check_fit("cnn3", 32, {}, path)


def under(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"state": {}}},
        lambda state: {"model_state_dict": state},
        lambda state: {"net": under("module.", state)},
        lambda state: {"my_network": state, "epoch": 1},
        lambda state: under("module._orig_mod.", state),
        lambda state: {name.replace("0.0.", "0._orig_mod.0."): v for name, v in state.items()},
        lambda state: {"state_dict": {**under("model.", state), "loss.weight": torch.ones(3)}},
        lambda state: {"model": under("module.", {k: v * 0 for k, v in state.items()}),
                       "model_ema": {"n_averaged": torch.tensor(2), **under("module.", state)}},
        lambda state: {"state_dict": state, "best": np.float64(71.3), "matrix": np.ones((2, 2)),
                       "args": argparse.Namespace(lr=0.1, out=Path("x")), "own": Exploit()},
    ],
)  # fmt: skip
def test_checkpoints_of_other_training_code_give_their_weights(tmp_path, monkeypatch, wrap):
    monkeypatch.chdir(tmp_path)
    state, model = build("mobilenet_small").state_dict(), build("mobilenet_small")
    path = saved(tmp_path, wrap(state))
    check_fit("mobilenet_small", 32, {}, path)
    load_pretrained(model, "mobilenet_small", path)
    assert equal(model.state_dict(), state)
    assert not (tmp_path / "pwned").exists()


def test_safetensors_give_their_weights(tmp_path):
    state, model = build("mobilenet_small").state_dict(), build("mobilenet_small")
    path = str(tmp_path / "model.safetensors")
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    load_pretrained(model, "mobilenet_small", path)
    assert equal(model.state_dict(), state)
    Path(path).write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        check_fit("mobilenet_small", 32, {}, path)


def test_weights_that_may_be_the_wrong_ones_are_refused(tmp_path):
    state = build("mobilenet_small").state_dict()
    for content, expected in (
        ({**under("student.", state), **under("teacher.", state)}, r"several .*student\., teacher"),
        ({"generator": state, "critic": state}, r"it has several: generator, critic"),
        ({name: (value * 9).char() for name, value in state.items()}, "is int8, the network wants"),
        ({name: value.to("meta") for name, value in state.items()}, "a shape but no values"),
        ({f"x{name}": value for name, value in state.items()}, "none of its names .*: x"),
        (under("net.", dict(list(state.items())[:-1])), r"not in the file .*without .* net\.\)"),
    ):
        with pytest.raises(WeightsError, match=expected):
            check_fit("mobilenet_small", 32, {}, saved(tmp_path, content))
    with pytest.raises(WeightsError, match=r"holds \S+\.Conv.*torch.save\(model.state_dict\(\)"):
        check_fit("cnn3", 32, {}, saved(tmp_path, nn.Conv2d(1, 1, 1)))


class Exploit:
    def __reduce__(self):
        return (open, ("pwned", "w"))


@pytest.mark.parametrize("save", [torch.save, lambda o, p: Path(p).write_bytes(pickle.dumps(o))])
def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save({"weights": {"fc.weight": Exploit()}}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=r"bad\.pth.*must hold tensors only"):
        check_fit("cnn3", 32, {}, "bad.pth")
    assert not (tmp_path / "pwned").exists()


def test_a_file_that_is_no_weights_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="expected a state dict"):
        check_fit("cnn3", 32, {}, saved(tmp_path, {"epoch": 3}))
    with pytest.raises(WeightsError, match=r"nowhere\.pt cannot be read \(No such file"):
        fingerprint(tmp_path / "nowhere.pt")


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path):
    path = saved(tmp_path, build("cnn3").state_dict())
    with pytest.raises(WeightsError, match="has changed since the sweep was planned"):
        load_pretrained(build("cnn3"), "cnn3", path, "0" * 16)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet18", "googlenet", "mobilenet_v2"])
def test_imagenet_weights_are_torchvisions(hub, arch):
    state, model = hub(NETWORKS[arch].torchvision), build(arch)
    load_pretrained(model, arch, IMAGENET)
    same = {n: v for n, v in model.state_dict().items() if v.shape == state[n].shape}
    assert equal(same, state)
    assert len(same) >= len(state) - 6
    assert getattr(model, "transform_input", True)


@pytest.mark.slow
def test_keras_resnet_takes_torchvisions_weights_with_zero_biases(hub):
    state, model = hub("resnet50"), build("resnet50_keras")
    nn.init.ones_(model.conv1.bias)
    load_pretrained(model, "resnet50_keras", IMAGENET)
    own = model.state_dict()
    assert equal({n: own[n] for n in state if not n.startswith("fc")}, state)
    assert not model.conv1.bias.any()


@pytest.mark.slow
def test_keras_inception_takes_torchvisions_scales_frozen(hub, tmp_path):
    state, model = hub("inception_v3"), build("inception_v3_keras", classes=5)
    load_pretrained(model, "inception_v3_keras", IMAGENET)
    own = model.state_dict()
    body = {n: v for n, v in state.items() if not n.startswith(("fc", "AuxLogits"))}
    assert equal(body, own)
    counts = count_parameters(model)
    assert (counts.trainable, counts.non_trainable) == (23_871_653, 34_432 + 17_216)

    # Weights trained from there can be loaded like any file.
    path = saved(tmp_path, {"weights": own})
    check_fit("inception_v3_keras", 75, {}, path)
    again = build("inception_v3_keras", classes=5)
    load_pretrained(again, "inception_v3_keras", path)
    assert equal(own, again.state_dict())
    assert count_parameters(again) == counts


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["efficientnet_b0_keras", "mobilenet_v2_keras"])
def test_keras_heads_stay_fresh(hub, arch):
    state, model = hub(NETWORKS[arch].torchvision), build(arch)
    head = {n: v.clone() for n, v in model.classifier.state_dict().items()}
    load_pretrained(model, arch, IMAGENET)
    own = model.state_dict()
    assert equal({n: v for n, v in state.items() if n.startswith("features")}, own)
    assert equal(head, model.classifier.state_dict())


def test_a_failed_download_says_where_the_file_goes(hub, monkeypatch):
    def fail(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(
        WeightsError, match=r"no route to host.*resnet18-f37072fd\.pth.*checkpoints"
    ):
        load_pretrained(build("resnet18"), "resnet18", IMAGENET)


@pytest.mark.parametrize(
    ("arch", "options", "problem"),
    [
        ("resnet18", {"stem": "imagenet", "width": None}, None),
        ("resnet18", {"stem": "cifar"}, "do not fit stem cifar"),
        ("mobilenet_v2", {"width": 0.5}, "do not fit width 0.5"),
        ("cnn3", {}, "cnn3 has no ImageNet weights; give a file, or take one of alexnet, "),
    ],
)
def test_imagenet_weights_that_cannot_fit_are_found_by_the_names(arch, options, problem):
    message = check_imagenet(arch, options)
    assert message is problem is None or problem in str(message)


@pytest.mark.slow
@pytest.mark.parametrize("arch", NETWORKS)
def test_every_network_has_a_head_that_is_told_from_its_features(arch):
    with torch.device("meta"):
        model = build(arch)
    total = count_parameters(model)
    freeze_features(model)
    frozen = count_parameters(model)
    heads = [count_parameters(model.get_submodule(name)).trainable for name in head_names(model)]
    assert frozen.trainable == sum(heads) > 0
    assert frozen.non_trainable == total.trainable + total.non_trainable - sum(heads)
    assert total.trainable > sum(heads)
    assert len(feature_norms(model)) == sum(
        isinstance(m, nn.BatchNorm2d)
        for n, m in model.named_modules()
        if n.partition(".")[0] not in head_names(model)
    )


def test_the_loss_of_a_small_image_reaches_the_head_of_inception():
    model = build("inception_v3", classes=3).train()
    logits, head = model(torch.rand(2, 3, 75, 75))
    functional.cross_entropy(head, torch.tensor([0, 1])).backward()
    assert logits.shape == head.shape == (2, 3)
    assert model.Mixed_6e.branch1x1.conv.weight.grad is not None
    assert model.Mixed_7a.branch3x3_1.conv.weight.grad is None
