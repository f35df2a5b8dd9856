"""Batched transforms against torchvision's, image by image under equal draws.

References are `torchvision.transforms.v2` on uint8 tensors. A value may differ by 1 of 255, since
float32 products and sums may be fused in one of them just where a value turns whole.
With a factor such as 1.2 a fifth of the values are whole in exact arithmetic.
"""

import functools

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from cnncore.config import (
    ColorJitter,
    GaussianBlur,
    Grayscale,
    Posterize,
    RandAugment,
    RandomErasing,
    RandomResizedCrop,
    Solarize,
    TrivialAugment,
    VerticalFlip,
)
from cnncore.data.augment import operations, policies
from cnncore.data.augment.policies import (
    RAND,
    TRIVIAL,
    PolicyDraws,
    amounts,
    draw_policy,
    factor,
    grouped_policy,
)
from cnncore.data.augment.stages import Stages, apply, covered

CPU = torch.device("cpu")
MEAN = (120, 110, 100)


@functools.cache
def pictures(side: int) -> torch.Tensor:
    """Smooth, noisy and plain images, uint8 `(28, 3, side, side)`; some use a part of the range."""
    random = np.random.default_rng(side)
    waves = np.add.outer(np.sin(np.arange(side) / 5), np.cos(np.arange(side) / 4))
    smooth = [
        np.stack([(waves * gain + 2) * 60 for gain in random.uniform(-1, 1, 3)]) for _ in range(12)
    ]
    noise = list(random.integers(0, 256, (12, 3, side, side)))
    dark = list(random.integers(30, 90, (2, 3, side, side)))
    plain = [np.full((3, side, side), 77), np.zeros((3, side, side))]
    return torch.from_numpy(np.stack([*smooth, *noise, *dark, *plain]).astype(np.uint8))


def by_pixel(images: torch.Tensor) -> torch.Tensor:
    """Return a copy in the layout of operations, which overwrite it."""
    return images.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)


def by_channel(pixels: torch.Tensor) -> torch.Tensor:
    assert pixels.dtype == torch.uint8
    return pixels.permute(0, 3, 1, 2)


def applied(stages, images: torch.Tensor, start: int) -> torch.Tensor:
    """Return images `(batch, 3, side, side)` after all stages."""
    pixels = by_pixel(images)
    apply(stages, pixels, start)
    return by_channel(pixels)


def assert_same(actual: torch.Tensor, expected: torch.Tensor, most: int = 1, share: float = 0.12):
    """Check that values differ by at most `most`, and more than 0 in at most a `share` of them."""
    difference = (actual.int() - expected.int()).abs()
    assert difference.max() <= most
    assert (difference > 0).float().mean() <= share


def unsure(name: str, magnitude: float, side: int) -> torch.Tensor:
    """Pixels whose source lies so near the middle of two that rounding in float32 decides."""
    entry = TRIVIAL[name]
    if entry.operation not in (operations.affine, operations.move_rows):
        return torch.zeros(side, side, dtype=torch.bool)
    a, b, c, d, e, f = entry.amounts(np.array([magnitude]), side)[0]
    along = np.arange(side) - (side - 1) / 2
    x, y = (p * along + q * along[:, None] + r for p, q, r in ((a, b, c), (d, e, f)))
    middle = [np.abs((place + (side - 1) / 2) % 1 - 0.5) < 1e-4 for place in (x, y)]
    return torch.from_numpy(middle[0] | middle[1])


@pytest.mark.parametrize(
    ("table", "theirs"),
    [(TRIVIAL, v2.TrivialAugmentWide()), (RAND, v2.RandAugment())],
    ids=["trivial_augment", "rand_augment"],
)
@pytest.mark.parametrize("side", [pytest.param(32, marks=pytest.mark.soak), 15])
def test_every_operation_and_magnitude_of_a_policy_is_torchvisions(table, theirs, side):
    assert list(table) == list(theirs._AUGMENTATION_SPACE)
    images = pictures(side)
    for name, (magnitudes, signed) in theirs._AUGMENTATION_SPACE.items():
        entry = table[name]
        expected = magnitudes(31, side, side)
        assert entry.signed == signed
        if expected is None:
            values = [0.0]
        else:
            np.testing.assert_array_equal(entry.magnitudes(side), expected.double())
            values = [
                sign * value for value in entry.magnitudes(side) for sign in (1, -1)[: 1 + signed]
            ]
        for number, value in enumerate(values):
            some = images[number % 4 :: 4] if len(values) > 1 else images
            draws = PolicyDraws(
                np.full(len(some), list(table).index(name)), np.full(len(some), float(value))
            )
            pixels = by_pixel(some)
            grouped_policy(table, draws, side, len(some), CPU)(pixels, 0)
            actual = by_channel(pixels)
            sure = ~unsure(name, value, side)
            for one, image in zip(actual, some, strict=True):
                wanted = theirs._apply_image_or_video_transform(
                    image, name, float(value), theirs.interpolation, theirs._fill
                )
                assert_same(one[:, sure], wanted[:, sure])
            assert sure.float().mean() > 0.75


@pytest.mark.parametrize(
    ("side", "at_a_time"), [(32, 256), (32, 2), (96, 2)], ids=["small", "in_parts", "large"]
)
def test_a_policy_gives_each_image_its_own_draw_in_every_batch(side, at_a_time, monkeypatch):
    monkeypatch.setattr(policies, "CPU_PIXELS", at_a_time * side**2)
    images = pictures(side)
    draws = draw_policy(TRIVIAL, len(images), side, np.random.default_rng(3))
    assert len(set(draws.choice.tolist())) > 8
    grouped = grouped_policy(TRIVIAL, draws, side, 12, CPU)
    theirs = v2.TrivialAugmentWide()
    for start in (0, 12, 24):
        pixels = by_pixel(images[start : start + 12])
        grouped(pixels, start)
        for i, one in enumerate(by_channel(pixels), start):
            name, value = list(TRIVIAL)[draws.choice[i]], float(draws.magnitude[i])
            wanted = theirs._apply_image_or_video_transform(
                images[i], name, value, theirs.interpolation, theirs._fill
            )
            sure = ~unsure(name, value, side)
            assert_same(one[:, sure], wanted[:, sure])


def test_no_value_of_a_blend_is_cut_before_it_is_clamped():
    # The strongest blends leave the range of the whole numbers that the way to bytes goes through.
    images = pictures(15)
    strongest = torch.from_numpy(factor(np.full(len(images), 1e6), 0)).float()
    actual = by_channel(operations.brightness(by_pixel(images), strongest))
    assert torch.equal(actual, (images > 0).to(torch.uint8) * 255)


def test_draws_of_policies_are_uniform_and_signed():
    draws = draw_policy(TRIVIAL, 60_000, 32, np.random.default_rng(0))
    assert np.bincount(draws.choice).min() > 0.9 * 60_000 / 14
    rotations = draws.magnitude[draws.choice == list(TRIVIAL).index("Rotate")]
    assert set(np.round(rotations / 4.5).astype(int)) == set(range(-30, 31))
    assert 0.45 < (rotations < 0).mean() < 0.52
    assert (draws.magnitude[draws.choice == list(TRIVIAL).index("Posterize")] >= 2).all()
    fixed = draw_policy(RAND, 5_000, 32, np.random.default_rng(0), 9)
    assert set(np.abs(fixed.magnitude[fixed.choice == list(RAND).index("Rotate")])) == {9.0}


# Each operation with its columns and torchvision's function of an image and the columns.
SINGLE = {
    "brightness": (
        operations.brightness,
        lambda r, n: factor(r.uniform(-1, 1.5, n), 0),
        lambda image, a: reference.adjust_brightness(image, float(a[0])),
    ),
    "contrast": (
        operations.contrast,
        lambda r, n: factor(r.uniform(-1, 1.5, n), 0),
        lambda image, a: reference.adjust_contrast(image, float(a[0])),
    ),
    "saturation": (
        operations.saturation,
        lambda r, n: factor(r.uniform(-1, 1.5, n), 0),
        lambda image, a: reference.adjust_saturation(image, float(a[0])),
    ),
    "hue": (
        operations.hue,
        lambda r, n: amounts(r.uniform(-0.5, 0.5, n), images=n),
        lambda image, a: reference.adjust_hue(image, float(a[0])),
    ),
    "grayscale": (
        operations.grayscale,
        lambda r, n: amounts(images=n),
        lambda image, a: reference.rgb_to_grayscale(image, 3),
    ),
    "posterize": (
        operations.posterize,
        lambda r, n: amounts(1 << (8 - np.arange(n) % 9), images=n),
        lambda image, a: reference.posterize(image, 8 - int(np.log2(a[0]))),
    ),
    "solarize": (
        operations.solarize,
        lambda r, n: amounts(np.arange(n) * (255 / (n - 1)), images=n),
        lambda image, a: reference.solarize(image, float(a[0])),
    ),
    "vertical_flip": (
        operations.vertical_flip,
        lambda r, n: amounts(images=n),
        lambda image, a: reference.vertical_flip(image),
    ),
    "gaussian_blur 3": (
        operations.blur(3),
        lambda r, n: amounts(r.uniform(0.1, 3, n), images=n),
        lambda image, a: reference.gaussian_blur(image, [3, 3], [float(a[0])] * 2),
    ),
    "gaussian_blur 9": (
        operations.blur(9),
        lambda r, n: amounts(r.uniform(0.1, 3, n), images=n),
        lambda image, a: reference.gaussian_blur(image, [9, 9], [float(a[0])] * 2),
    ),
}


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("side", [32, 15])
def test_an_operation_is_torchvisions(name, side):
    operation, columns, theirs = SINGLE[name]
    images = pictures(side)
    drawn = columns(np.random.default_rng(1), len(images))
    actual = by_channel(operation(by_pixel(images), torch.from_numpy(drawn).float()))
    for one, image, row in zip(actual, images, drawn, strict=True):
        assert_same(one, theirs(image, row))


def test_the_histogram_on_a_device_is_the_one_on_a_cpu():
    places = pictures(15).int().view(-1)
    actual = operations.bincount_without_waiting(places, 300)
    assert torch.equal(actual, torch.bincount(places, minlength=300).int())


@pytest.mark.parametrize("side", [32, 15])
def test_a_box_is_cropped_and_resized_as_torchvisions(side):
    # torchvision rounds between the two directions, so a value may differ by 1 more often.
    images = pictures(side)
    stages = new_stages((RandomResizedCrop(),), len(images), side, batch_size=len(images))
    actual = applied(stages.first, images, 0)
    boxes = stages.first[0]._amounts.numpy()
    for one, image, (top, left, height, width, *_) in zip(
        actual, images, boxes.astype(int).tolist(), strict=True
    ):
        wanted = reference.resized_crop(image, top, left, height, width, [side, side])
        assert_same(one, wanted, share=0.5)
        exact = reference.resized_crop(image.float(), top, left, height, width, [side, side])
        assert_same(one, exact.round())


def test_boxes_have_torchvisions_distribution():
    for part, theirs, keys in (
        (RandomResizedCrop(), v2.RandomResizedCrop(32), ("top", "left", "height", "width")),
        (RandomErasing(p=1), v2.RandomErasing(p=1), ("i", "j", "h", "w")),
    ):
        images = 40_000
        stages = new_stages((part,), images, 32)
        ours = (stages.first or stages.last)[0]._amounts[:, :4].numpy()
        torch.manual_seed(0)
        draws = [theirs.make_params([torch.zeros(3, 32, 32)]) for _ in range(4_000)]
        others = np.array([[draw[key] for key in keys] for draw in draws])
        for column in range(4):
            assert ours[:, column].mean() == pytest.approx(others[:, column].mean(), abs=0.45)
            assert ours[:, column].std() == pytest.approx(others[:, column].std(), abs=0.35)
        assert (ours[:, :2] + ours[:, 2:4]).max() <= 32


def test_covered_boxes_have_one_colour_and_the_rest_stays():
    images = pictures(32)
    columns = torch.tensor([[3.0, 5, 7, 9, 0, 0]]).repeat(len(images), 1)
    colour = torch.tensor([1, 2, 3], dtype=torch.uint8)
    actual = by_channel(covered(colour)(by_pixel(images), columns))
    expected = reference.erase(images, 3, 5, 7, 9, colour[:, None, None])
    assert torch.equal(actual, expected)


def test_jitter_applies_its_factors_in_the_order_drawn():
    images = pictures(32)
    jitter = ColorJitter(brightness=0.4, saturation=0.7, hue=0.2)
    stages = new_stages((jitter,), len(images), 32, batch_size=len(images))
    actual = applied(stages.colours, images, 0)
    functions = {
        operations.brightness: reference.adjust_brightness,
        operations.saturation: reference.adjust_saturation,
        operations.hue: reference.adjust_hue,
    }
    orders = set()
    for i, image in enumerate(images):
        order = []
        for group in stages.colours:
            place = group._places.tolist().index(i)
            number = np.searchsorted(group._bounds[1:5], place, side="right") - 1
            order.append(group._operations[number])
            image = functions[order[-1]](image, float(group._amounts[place, 0]))
        orders.add(tuple(order))
        assert sorted(map(str, order)) == sorted(map(str, functions))
        # A difference of 1 grows by the factors after it.
        assert_same(actual[i], image, most=3, share=0.1)
    assert len(orders) > 3


def new_stages(augment, images, side, epoch=1, batch_size=8):
    return Stages(augment, images, side, 3, epoch, CPU, batch_size=batch_size, mean=MEAN)


IDENTITIES = [
    ColorJitter(hue=1e-9),
    *(Grayscale(p=0), GaussianBlur(kernel=5, p=0), GaussianBlur(kernel=5, sigma=(0.01, 0.01))),
    *(Solarize(p=0), Posterize(p=0), Posterize(bits=8, p=1), RandomErasing(p=0)),
    RandomResizedCrop(scale=(1, 1), ratio=(1, 1)),
]


@pytest.mark.parametrize("part", IDENTITIES, ids=str)
def test_settings_that_change_nothing_are_the_identity(part):
    images = pictures(32)
    stages = new_stages((part,), len(images), 32)
    for start in range(0, len(images), 8):
        some = images[start : start + 8]
        for group in (stages.first, stages.colours, stages.last):
            assert torch.equal(applied(group, some, start), some)


def test_probabilities_are_kept_and_the_mean_is_the_colour_of_normalize():
    for part in (
        Grayscale(p=0.3),
        Solarize(p=0.3, threshold=0),
        RandomErasing(p=0.3),
        VerticalFlip(),
    ):
        pixels = torch.arange(2 * 2 * 3, dtype=torch.uint8).view(1, 2, 2, 3).repeat(4_000, 1, 1, 1)
        if isinstance(part, RandomErasing):
            pixels = torch.ones(4_000, 16, 16, 3, dtype=torch.uint8)
        before = pixels.clone()
        stages = new_stages((part,), 4_000, pixels.shape[1], batch_size=4_000)
        for group in (*stages.first, *stages.colours, *stages.last):
            group(pixels, 0)
        changed = (pixels != before).flatten(1).any(1).float().mean()
        assert changed == pytest.approx(0.5 if isinstance(part, VerticalFlip) else 0.3, abs=0.04)
        if isinstance(part, RandomErasing):
            assert pixels.unique().tolist() == [1, *sorted(MEAN)]


def test_every_kind_is_drawn_anew_in_each_epoch_and_independently_of_the_others():
    images = pictures(32)
    kinds = (
        *(VerticalFlip(), RandomResizedCrop(), ColorJitter(hue=0.3), Grayscale()),
        *(GaussianBlur(kernel=3), Solarize(), Posterize(), TrivialAugment(), RandomErasing()),
    )
    together = new_stages(kinds, 200, 32)
    places = [group._places for group in (*together.first, *together.colours, *together.last)]
    alone = []
    for kind in kinds:
        one = new_stages((kind,), 200, 32)
        alone += [group._places for group in (*one.first, *one.colours, *one.last)]
    assert all(torch.equal(a, b) for a, b in zip(places, alone, strict=True))
    for other in (TrivialAugment(), RandAugment(n=2, magnitude=9), RandomResizedCrop()):
        outputs = []
        for epoch in (1, 1, 2):
            stages = new_stages((other,), len(images), 32, epoch)
            outputs.append(applied([*stages.first, *stages.colours], images[:8], 0))
        assert torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[0], outputs[2])
