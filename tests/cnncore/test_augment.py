"""Batched augmentation against one image at a time, given the same draws."""

import numpy as np
import pytest
import torch

from cnncore.config import Crop, Flip
from cnncore.data.augment import DeviceDraws, HostAugmenter, augment_on_device, draw

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)


def one_by_one(indices, draws):
    out = []
    for i, top, left, flip in zip(indices, draws.top, draws.left, draws.flip, strict=True):
        p = draws.padding
        padded = np.pad(IMAGES[i], ((p, p), (p, p), (0, 0)))
        cut = padded[top : top + 12, left : left + 12]
        out.append(cut[:, ::-1] if flip else cut)
    return np.stack(out)


@pytest.mark.parametrize("augment", [(), (Flip(),), (Crop(),), (Crop(padding=4), Flip())])
def test_batches_equal_single_images_on_host_and_device(augment):
    order = np.random.default_rng(1).permutation(50)
    draws = draw(augment, 50, 12, seed=3, epoch=2)
    expected = one_by_one(order, draws)
    host = HostAugmenter(IMAGES, 16, draws.padding)
    on_device = DeviceDraws.of(draws, torch.device("cpu"))
    for start in range(0, 50, 16):  # the last batch has two images
        at = slice(start, min(start + 16, 50))
        np.testing.assert_array_equal(host.batch(order[at], draws, at), expected[at])
        batch = augment_on_device(
            torch.from_numpy(IMAGES), torch.from_numpy(order[at]), on_device, at
        )
        np.testing.assert_array_equal(batch, expected[at])


def test_draws_cover_every_place_and_depend_on_seed_and_epoch_alone():
    draws = draw((Crop(), Flip()), 2000, 32, seed=0, epoch=1)
    assert draws.padding == 4
    assert set(draws.top) == set(draws.left) == set(range(9))
    assert 0.45 < draws.flip.mean() < 0.55
    again, later = (draw((Crop(), Flip()), 2000, 32, 0, epoch) for epoch in (1, 2))
    np.testing.assert_array_equal(draws.top, again.top)
    assert (draws.top != later.top).any()
    assert (draws.flip != later.flip).any()
