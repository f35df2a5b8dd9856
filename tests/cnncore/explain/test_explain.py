"""Explanations against references: fields by gradients, costs by counting, effects by hand."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from cnncore.config import Enhance, TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.data.augment.enhancement import enhanced
from cnncore.explain.attributions import METHODS, attribute, predicted_class, rank_correlation
from cnncore.explain.enhancement_effect import equal_noise, study_enhancement
from cnncore.explain.feature_maps import layer_maps
from cnncore.explain.receptive_field import receptive_fields
from cnncore.explain.separable_cost import separable_blocks
from cnncore.models import build_model

CPU = torch.device("cpu")


def seen_pixels(model, layer, side):
    """Return height and width of the pixels that change a layer's middle element, by its gradient.

    All weights are positive and pooling averages, so that no path cancels another or is cut off.
    """
    for weight in model.parameters():
        nn.init.constant_(weight, 0.01)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(child.kernel_size, child.stride, child.padding)
                setattr(parent, name, average)
    image = torch.ones(1, 3, side, side, requires_grad=True)
    outputs = []
    hook = model.get_submodule(layer).register_forward_hook(lambda *args: outputs.append(args[2]))
    model.eval()(image)
    hook.remove()
    middle = outputs[0].shape[2] // 2
    (gradient,) = torch.autograd.grad(outputs[0][0, 0, middle, middle], image)
    touched = gradient[0].abs().sum(0).nonzero()
    return tuple((touched.max(0).values - touched.min(0).values + 1).tolist())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "side", "layers"),
    [
        ("cnn3", 32, ["0", "1", "3", "4", "6"]),
        ("alexnet", 511, ["features.0", "features.5", "features.8", "features.12"]),
    ],
)
def test_receptive_fields_are_what_gradients_reach(arch, side, layers):
    model = build_model(arch, classes=2, image_size=side)
    fields = {window.name: window.field for window in receptive_fields(model, side)}
    for layer in layers:
        assert fields[layer] == seen_pixels(model, layer, side), layer


class Branches(nn.Module):
    """A residual of a 5x3 dilated and strided path and a 1x1 shortcut, then a sum with its pool."""

    def __init__(self):
        super().__init__()
        self.long = nn.Conv2d(3, 2, (5, 3), stride=2, padding=(4, 2), dilation=2)
        self.short = nn.Conv2d(3, 2, 1, stride=2)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        long, short = self.long(x), self.short(x)
        joined = torch.cat([long + short, short.relu_()], 1)
        return self.last(nn.functional.pad(joined, (1, 1, 0, 0))).mean((2, 3))


def test_receptive_fields_of_branches_are_the_largest():
    model = Branches()
    fields = {window.name: window for window in receptive_fields(model, 41)}
    assert [fields[name].field for name in ("long", "short", "last")] == [(9, 5), (1, 1), (13, 9)]
    assert fields["last"].jump == (2, 2)
    assert fields["last"].field == seen_pixels(model, "last", 41)


class OneSided(nn.Module):
    """Sum of a centred convolution and one that sees only pixels to the left."""

    def __init__(self):
        super().__init__()
        self.middle, self.left = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 2, 3)
        self.last = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return self.last(self.middle(x) + self.left(nn.functional.pad(x, (2, 0, 1, 1))))


def test_receptive_fields_of_branches_that_look_elsewhere_add_up():
    fields = {window.name: window.field for window in receptive_fields(OneSided(), 15)}
    assert fields["last"] == (3, 4) == seen_pixels(OneSided(), "last", 15)


def test_separable_blocks_take_the_share_that_theory_says():
    model = build_model("mobilenet_small", classes=10, image_size=16, strides=[2, 1, 1, 1])
    blocks = separable_blocks(model, 16)
    assert [(b.channels_in, b.channels_out) for b in blocks] == [
        (16, 32), (32, 64), (64, 64), (64, 128)
    ]  # fmt: skip
    first = blocks[0]
    assert first.output == (8, 8)
    assert first.separable_macs == 9 * 16 * 64 + 16 * 32 * 64
    assert first.standard_macs == 9 * 16 * 32 * 64
    for block in blocks:
        assert block.counted == pytest.approx(block.theory)
    with pytest.raises(ValueError, match="no depthwise-separable block"):
        separable_blocks(build_model("cnn3", classes=10, image_size=32), 32)


def test_maps_are_those_before_an_activation_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 2))
    image = torch.randn(1, 3, 5, 5)
    name, maps = layer_maps(model, image, None)
    assert name == "0"
    assert maps.min() < 0
    assert torch.equal(maps, model[0](image))
    with pytest.raises(ValueError, match=r"no layer '3' .*0 \(Conv2d\), 1 \(ReLU\)$"):
        layer_maps(model, image, "3")


def test_attributions_of_a_linear_network_are_weight_times_pixel():
    torch.manual_seed(0)
    linear = nn.Linear(3 * 8 * 8, 4)
    model = nn.Sequential(nn.Flatten(), linear)
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    image = torch.randn(1, 3, 8, 8)
    target = predicted_class(model, image)
    assert target == model(image).argmax().item()
    share = (linear.weight[target].view(1, 3, 8, 8) * image).sum(1)[0].detach().numpy()
    attributions = attribute(model, fresh, image, target, seed=0)
    assert [one.method for one in attributions] == list(METHODS)
    for one in attributions:  # 8 pixels to a side, so every block is a pixel
        np.testing.assert_allclose(one.trained, share, atol=1e-5)
        assert abs(one.similarity) < 0.5
    same = attribute(model, model, image, target, seed=0)
    assert [one.similarity for one in same] == pytest.approx([1.0] * 3)


def test_rank_correlation_equals_scipys_with_ties():
    random = np.random.default_rng(0)
    one, other = random.integers(0, 5, (2, 6, 6)).astype(float)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other, axis=None)[0])
    assert rank_correlation(one, np.ones((6, 6))) == 0.0


class Brighter(nn.Module):
    """Network that predicts class 1 if the mean input is above a threshold."""

    def forward(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean - 0.25], 1)


@pytest.fixture
def splits(tmp_path):
    keys: dict[str, Any] = {"normalize": {"mean": [0, 0, 0], "std": [1, 1, 1]}, "limit_test": 90}
    keys |= {"arch": "cnn3", "dataset": "digits", "optimizer": "sgd", "lr": 1.0, "epochs": 1}
    config = TrialConfig(**keys)
    return open_splits(config, load_dataset("digits", tmp_path), CPU)


def test_raw_images_give_the_inputs_of_the_batches(splits):
    (images, _), *_ = splits.test.batches()
    indices = np.arange(len(images))
    assert torch.equal(splits.test.inputs(splits.test.raw(indices)), images)


def test_enhancement_counts_repairs_and_breakages_over_the_whole_split(splits):
    for split in (splits.val, splits.test):
        split.labels[:] = np.arange(len(split)) % 2
    enhancements = study_enhancement(
        Brighter(), splits.val, splits.test, precision="fp32", device=CPU, seed=0
    )
    by = {(one.split, one.transform, tuple(one.factors.values())): one for one in enhancements}
    assert len(enhancements) == 15 + 1 + 4

    # By hand: the mean of all pixels before and after a brightness of 1.5.
    raw = splits.val.raw(np.arange(len(splits.val)))
    labels = splits.val.labels
    before, after = (
        (images.double().mean((1, 2, 3)).numpy() / 255 > 0.25) == labels
        for images in (raw, enhanced(raw, Enhance(brightness=1.5)))
    )
    effect = by["val", "brightness", (1.5,)].effect
    assert effect.repaired == (~before & after).sum() > 0
    assert effect.broken == (before & ~after).sum() > 0
    assert effect.wrong_before == (~before).sum()
    assert effect.top1_after == pytest.approx(after.mean())
    assert effect.repaired_share == effect.repaired / effect.wrong_before

    val = [one for one in enhancements if one.split == "val" and one.transform == "brightness"]
    (chosen,) = [one for one in val if one.chosen]
    assert chosen.effect.net_change == max(one.effect.net_change for one in val)
    test = [one for one in enhancements if one.split == "test"]
    assert test[0].factors == chosen.factors
    assert [one.transform for one in test] == ["brightness", "contrast", "sharpness", "combined"]
    assert test[3].factors == {k: v for one in test[:3] for k, v in one.factors.items()}
    assert all(one.random is not None for one in test)


def test_noise_has_the_norm_of_the_enhancement_on_every_image(splits):
    raw = splits.test.raw(np.arange(20)) // 2 + 60
    change = partial(enhanced, factors=Enhance(contrast=1.5))
    noisy = equal_noise(raw, change, torch.Generator().manual_seed(3))
    norms = [(x.double() - raw.double()).flatten(1).norm(dim=1) for x in (change(raw), noisy)]
    torch.testing.assert_close(norms[1], norms[0], rtol=0.02, atol=0)
    assert torch.equal(noisy, equal_noise(raw, change, torch.Generator().manual_seed(3)))
