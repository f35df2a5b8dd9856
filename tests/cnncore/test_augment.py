"""Batched augmentation against one image at a time, given the same draws."""

import numpy as np
import pytest
import torch

from cnncore.config import Crop, Flip
from cnncore.data.augment import HostAugmenter, batches_on_device, draw

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
    draws = draw(augment, 50, 16, 12, seed=3, epoch=2)
    expected = one_by_one(order, draws)
    images, indices = torch.from_numpy(IMAGES), torch.from_numpy(order)
    for first in (0, 32):
        host = HostAugmenter(images, 16, draws.padding).batches(indices, draws, first)
        on_device = batches_on_device(images, indices, draws, 16, first)
        got = [torch.cat([batch.clone() for batch in batches]) for batches in (host, on_device)]
        np.testing.assert_array_equal(got[0], expected[first:])
        np.testing.assert_array_equal(got[1], expected[first:])


def test_draws_cover_every_place_and_depend_on_seed_and_epoch_alone():
    draws = draw((Crop(), Flip()), 2030, 50, 32, seed=0, epoch=1)
    assert draws.padding == 4
    assert set(draws.top.tolist()) == set(draws.left.tolist()) == set(range(9))
    batches = draws.flip.split(50)
    assert all(batch.sort().values.equal(batch) for batch in batches)  # the mirrored come last
    mirrored = torch.stack([batch.sum() for batch in batches[:-1]]).float()
    assert mirrored.mean() == pytest.approx(25, abs=2)
    assert mirrored.std() == pytest.approx(3.5, abs=1.5)  # binomial: half the root of 50
    again, later = (draw((Crop(), Flip()), 2030, 50, 32, 0, epoch) for epoch in (1, 2))
    assert torch.equal(draws.top, again.top)
    assert not torch.equal(draws.top, later.top)
    assert not torch.equal(draws.flip, later.flip)
