"""Enhancers against Pillow's, byte for byte."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from cnncore.data.enhance import ENHANCERS, enhance


def pillow(images, name, factor):
    enhancer = getattr(ImageEnhance, name.capitalize())
    made = [enhancer(Image.fromarray(image.numpy())).enhance(factor) for image in images]
    return torch.from_numpy(np.stack([np.asarray(one) for one in made]))


@pytest.mark.parametrize("name", ENHANCERS)
@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.25, 2.0])
def test_enhancers_equal_pillows(name, factor):
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randint(0, 256, (8, 9, 9, 3), generator=generator, dtype=torch.uint8)
    images = torch.cat([noisy, noisy // 4 + 40])  # an image of little contrast is not cut off
    assert torch.equal(ENHANCERS[name](images, factor), pillow(images, name, factor))


def test_several_factors_apply_one_after_the_other():
    images = torch.arange(4 * 6 * 6 * 3).remainder(251).to(torch.uint8).view(4, 6, 6, 3)
    expected = pillow(pillow(images, "brightness", 1.5), "sharpness", 2.0)
    assert torch.equal(enhance(images, {"sharpness": 2.0, "brightness": 1.5}), expected)
