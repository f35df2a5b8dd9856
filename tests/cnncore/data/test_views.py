"""What an evaluation shows the network: `eval_crop` and `tta`."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as reference

from cnncore.config import TrialConfig
from cnncore.data import load_dataset, open_splits
from cnncore.data.batches import EvalSplit, EvalView, Normalization
from cnncore.measure.evaluate import predict

CPU = torch.device("cpu")
HALF = Normalization((0.5,) * 3, (0.25,) * 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)


def split(image_size: int, **view) -> EvalSplit:
    labels = np.arange(40) % 3
    return EvalSplit(
        *(torch.from_numpy(IMAGES), labels, np.arange(40), image_size, HALF, CPU),
        view=EvalView(**view),
    )


# Shrunk and enlarged before the crop; an odd number of pixels too many.
@pytest.mark.parametrize(
    ("size", "crop", "resized"), [(14, 0.875, 16), (28, 0.5, 56), (16, 0.7, 23)]
)
def test_eval_crop_is_torchvisions_resize_and_center_crop(size, crop, resized):
    some = split(size, crop=crop)
    batches = list(some.batches())
    pixels = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    expected = reference.resize(pixels, [resized, resized], antialias=True)
    expected = (reference.center_crop(expected, [size, size]) - 0.5) / 0.25
    actual = torch.cat([images.clone() for images, _ in some.batches()])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)
    inputs = some.inputs(some.raw(range(5)))
    torch.testing.assert_close(inputs, actual[:5], rtol=0, atol=0)
    inner = some.seen(some.raw(range(5)))
    assert abs(inner.shape[1] - 24 * crop) <= 0.5
    first = round((24 - inner.shape[1]) / 2)
    assert torch.equal(inner[:, 0, 0], torch.from_numpy(IMAGES[:5, first, first]))


class Lopsided(nn.Module):
    """Logits that tell left from right; counts the images that it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = 0
        self.weight = nn.Parameter(torch.randn(3, 3 * 24 * 24, generator=torch.manual_seed(1)))

    def forward(self, images):
        self.seen += len(images)
        return images.flatten(1) @ self.weight.T


def test_logits_under_tta_are_the_mean_over_the_image_and_its_mirror():
    model = Lopsided()
    plain, both = split(24), split(24, mirror=True)
    logits, labels = predict(model, both.batches(), precision="fp32", device=CPU)
    assert model.seen == 80
    seen, _ = predict(model, plain.batches(), precision="fp32", device=CPU)
    mirrored = ((images.flip(3), its_labels) for images, its_labels in plain.batches())
    others, _ = predict(model, mirrored, precision="fp32", device=CPU)
    assert not torch.allclose(seen, others)
    torch.testing.assert_close(logits, (seen + others) / 2)
    assert labels.tolist() == [i % 3 for i in range(40)]
    # As analyses change images before they show them.
    changed = [(both.views(both.inputs(both.raw(range(40)))), torch.from_numpy(both.labels))]
    again, _ = predict(model, changed, precision="fp32", device=CPU)
    torch.testing.assert_close(again, logits)


def config(**keys) -> TrialConfig:
    return TrialConfig(arch="cnn3", dataset="digits", optimizer="sgd", lr=1, epochs=1, **keys)


def test_views_hold_for_validation_and_test_and_never_for_training(tmp_path):
    data = load_dataset("digits", tmp_path)
    plain, cut = (
        open_splits(one, data, CPU) for one in (config(), config(eval_crop=0.5, tta="flip"))
    )
    train = [next(iter(splits.train.batches(0, 1)))[0].clone() for splits in (plain, cut)]
    assert torch.equal(*train)
    for name in ("val", "test"):
        one, two = (next(iter(getattr(splits, name).batches())) for splits in (plain, cut))
        assert len(one[0]) == len(one[1])
        assert len(two[0]) == 2 * len(two[1])
        assert not torch.equal(one[0][:4], two[0][:4])


def test_the_whole_image_is_null():
    assert config(eval_crop=1.0) == config()
    assert config(eval_crop=0.875) != config()
    with pytest.raises(ValueError, match=r"greater than or equal to 0\.25"):
        config(eval_crop=0.2)
