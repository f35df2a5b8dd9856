"""Augmentation of batches, compared with one image at a time under equal draws."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from cnncore.config import (
    Brightness,
    Contrast,
    Crop,
    Enhance,
    Erase,
    Flip,
    Rotate,
    Saturation,
    Scale,
    Sharpness,
    Translate,
    TrialConfig,
    TrivialAugment,
    VerticalFlip,
)
from cnncore.data.augment.crop_flip import HostAugmenter, batches_on_device, draw
from cnncore.data.augment.distortion import Distortion
from cnncore.data.augment.enhancement import enhanced
from cnncore.data.augment.mixing import draw_mix
from cnncore.data.batches import EvalSplit, Normalization, TrainSplit

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)


def one_by_one(indices, draws):
    augmented = []
    for i, top, left, flip in zip(indices, draws.top, draws.left, draws.flip, strict=True):
        p = draws.padding
        padded = np.pad(IMAGES[i], ((p, p), (p, p), (0, 0)))
        cut = padded[top : top + 12, left : left + 12]
        augmented.append(cut[:, ::-1] if flip else cut)
    return np.stack(augmented)


@pytest.mark.parametrize("augment", [(), (Flip(),), (Crop(),), (Crop(padding=4), Flip())])
def test_batches_equal_single_images_on_host_and_device(augment):
    order = np.random.default_rng(1).permutation(50)
    draws = draw(augment, 50, 16, 12, seed=3, epoch=2)
    expected = one_by_one(order, draws)
    images, indices = torch.from_numpy(IMAGES), torch.from_numpy(order)
    for first in (0, 32):
        host = HostAugmenter(images, 16, draws.padding).batches(indices, draws, first)
        on_device = batches_on_device(images, indices, draws, 16, first)
        actual = [torch.cat([batch.clone() for batch in batches]) for batches in (host, on_device)]
        np.testing.assert_array_equal(actual[0], expected[first:])
        np.testing.assert_array_equal(actual[1], expected[first:])


def test_draws_cover_every_position_and_depend_on_seed_and_epoch_alone():
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


# A smooth image, like a photograph, because interpolation errors are large at edges.
WAVES = np.add.outer(np.sin(np.arange(32) / 5), np.cos(np.arange(32) / 4))
SMOOTH = np.stack([(WAVES * gain + 2) * 60 for gain in (1.0, 0.5, -0.8)]).astype(np.uint8)
PIXELS = torch.from_numpy(np.stack([np.roll(SMOOTH, i, axis=2) for i in range(20)])).float()
GEOMETRY = (Rotate(degrees=30), Translate(fraction=0.2), Scale(low=0.7, high=1.4))
COLOURS = (
    Brightness(low=0.2, high=1.8),
    Contrast(low=0.0, high=2.0),
    Saturation(low=0.0, high=3.0),
    Sharpness(low=0.0, high=2.5),
)
ENHANCERS = (
    ImageEnhance.Brightness,
    ImageEnhance.Contrast,
    ImageEnhance.Color,
    ImageEnhance.Sharpness,
)


def distortion(augment, epoch=2, images=20, side=32):
    return Distortion(augment, images, side, 3, epoch, CPU, batch_size=8)


def distorted(changes, pixels, start=0):
    """Return float images `(batch, 3, side, side)` of whole values, after the changes."""
    images = changes(pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous(), start)
    assert images.dtype == torch.uint8
    return images.permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("augment", [*((part,) for part in GEOMETRY), GEOMETRY])
def test_one_resampling_equals_torchvisions_affine(augment):
    changes = distortion(augment)
    actual = distorted(changes, PIXELS)
    for i, image in enumerate(PIXELS):
        expected = reference.affine(
            image,
            angle=float(changes.angle[i]),
            translate=changes.shift[:, i].tolist(),
            scale=float(changes.scale[i]),
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(actual[i], expected, rtol=0, atol=0.51)
    assert torch.equal(distorted(changes, PIXELS[8:], 8), actual[8:])


def pillow(pixels):
    return Image.fromarray(pixels.permute(1, 2, 0).numpy().astype(np.uint8))


@pytest.mark.parametrize("augment", [*((part,) for part in COLOURS), COLOURS])
def test_colours_equal_pillows_image_by_image(augment):
    changes = distortion(augment)
    noise = torch.from_numpy(np.random.default_rng(5).integers(0, 256, (20, 3, 32, 32))).float()
    for pixels in (PIXELS, noise):
        actual = distorted(changes, pixels)
        for i, image in enumerate(pixels):
            expected = pillow(image)
            for part, factors in zip(augment, changes.factors.values(), strict=True):
                enhancer = ENHANCERS[COLOURS.index(part)]
                expected = enhancer(expected).enhance(factors[i].item())
            np.testing.assert_array_equal(actual[i].permute(1, 2, 0), np.asarray(expected))


def test_enhancing_every_image_equals_pillow():
    images = PIXELS.permute(0, 2, 3, 1).to(torch.uint8).contiguous()
    factors = Enhance(brightness=1.5, contrast=0.75, sharpness=2.0)
    actual = enhanced(images, factors)
    for i, image in enumerate(images):
        expected = Image.fromarray(image.numpy())
        for enhancer, factor in zip(
            (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Sharpness),
            (1.5, 0.75, 2.0),
            strict=True,
        ):
            expected = enhancer(expected).enhance(factor)
        np.testing.assert_array_equal(actual[i], np.asarray(expected))


def test_erased_squares_are_random_pixels_and_the_rest_stays():
    changes = distortion((Erase(size=9),))
    actual = distorted(changes, PIXELS[4:], 4)
    noise = changes.noise(16, 9, 4)
    for i, image in enumerate(PIXELS[4:]):
        expected = image.clone()
        top, left = changes.corner[:, 4 + i].tolist()
        for row in range(max(0, top), min(32, top + 9)):
            for column in range(max(0, left), min(32, left + 9)):
                expected[:, row, column] = noise[i, :, row - top, column - left]
        assert torch.equal(actual[i], expected)
    centres = distortion((Erase(size=9),), images=5000).corner + 4
    assert (centres.min(), centres.max()) == (0, 31)


def test_every_kind_is_drawn_anew_in_each_epoch_within_its_bounds():
    augment = (*GEOMETRY, *COLOURS)
    one, two = (distortion(augment, epoch, images=2000) for epoch in (1, 2))
    for low, high, draws, others in (
        (-30, 30, one.angle, two.angle),
        (-0.2 * 32, 0.2 * 32, one.shift, two.shift),
        (0.7, 1.4, one.scale, two.scale),
        *(
            (part.low, part.high, factors.numpy(), later.numpy())
            for part, factors, later in zip(
                COLOURS, one.factors.values(), two.factors.values(), strict=True
            )
        ),
    ):
        span = high - low
        assert low <= draws.min() < low + 0.02 * span
        assert high - 0.02 * span < draws.max() <= high
        assert abs(np.corrcoef(draws.ravel(), others.ravel())[0, 1]) < 0.1
    alone = distortion((Rotate(degrees=30),), 1, images=2000)
    np.testing.assert_array_equal(alone.angle, one.angle)  # independent of the other kinds


def test_an_epoch_can_be_resumed_at_any_step_under_every_augmentation():
    split = TrainSplit(
        torch.from_numpy(IMAGES),
        np.arange(50) % 3,
        np.arange(50),
        (Flip(), Crop(), *GEOMETRY, *COLOURS, Erase(size=4)),
        16,
        12,
        Normalization((0.5,) * 3, (0.5,) * 3),
        CPU,
    )
    whole = [images.clone() for images, _ in split.batches(7, 3)]
    rest = [images.clone() for images, _ in split.batches(7, 3, first_step=2)]
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_changes_leave_the_data_set_as_it_is():
    images = torch.from_numpy(IMAGES.copy())
    labelled = (images, np.arange(50) % 3, np.arange(50))
    inputs = (12, Normalization((0.5,) * 3, (0.5,) * 3), CPU)
    plain, changed = (
        torch.cat([x.clone() for x, _ in TrainSplit(*labelled, augment, 16, *inputs).batches(7, 3)])
        for augment in ((), (TrivialAugment(), VerticalFlip()))
    )
    assert not torch.equal(changed, plain)
    for _ in EvalSplit(*labelled, *inputs, augment=(TrivialAugment(),)).batches():
        pass
    assert torch.equal(images, torch.from_numpy(IMAGES))


def mixing(**keys):
    return TrialConfig(arch="a", dataset="d", optimizer="sgd", lr=1, epochs=1, **keys)


@pytest.mark.parametrize("keys", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_images_and_their_labels_weights_agree(keys):
    kinds = set()
    for step in range(1, 40):
        mixed = draw_mix(mixing(**keys), PIXELS, 1, 2, step)
        again = draw_mix(mixing(**keys), PIXELS, 1, 2, step)
        assert (mixed.share, mixed.box) == (again.share, again.box)
        assert sorted(mixed.partner) == list(range(20))
        actual = mixed.images(PIXELS)
        kinds.add(mixed.box is not None)
        for i, partner in enumerate(mixed.partner.tolist()):
            if mixed.box is None:
                expected = mixed.share * PIXELS[i] + (1 - mixed.share) * PIXELS[partner]
            else:
                top, bottom, left, right = mixed.box
                expected = PIXELS[i].clone()
                expected[:, top:bottom, left:right] = PIXELS[partner][:, top:bottom, left:right]
                kept = 32 * 32 - (bottom - top) * (right - left)
                assert mixed.share == pytest.approx(kept / 32**2)
            torch.testing.assert_close(actual[i], expected)
    assert kinds == {"cutmix" in keys, "mixup" not in keys}


def test_cutmix_and_mixup_shares_have_the_papers_distributions():
    shares = [draw_mix(mixing(cutmix=1.0), PIXELS, 0, 1, step).share for step in range(3000)]
    # Beta(1, 1) is uniform; the border cuts boxes, so more than half of the image is kept.
    assert 0.5 < np.mean(shares) < 0.75
    assert min(shares) < 0.1
    assert max(shares) == 1
    mixups = [draw_mix(mixing(mixup=0.2), PIXELS, 0, 1, step).share for step in range(3000)]
    assert np.mean(mixups) == pytest.approx(0.5, abs=0.03)
    assert np.var(mixups) == pytest.approx(0.25 / 1.4, abs=0.01)  # of Beta(0.2, 0.2)
