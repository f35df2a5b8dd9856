"""Transforms of the user's: their random numbers, and what is refused before training."""

import random
import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cnncore.config import Crop, Flip, OwnTransform, TrivialAugment
from cnncore.data.augment.own_transform import try_transform
from cnncore.data.batches import Normalization, TrainSplit
from cnncore.seeding import derive_seed
from grid.code.asked import ask

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)


class Noisy:
    """Changes by draws from all three global generators."""

    def __init__(self, most: int = 20):
        self.most = most

    def __call__(self, image):
        amount = random.randrange(self.most) + np.random.randint(self.most) + torch.rand(()) * 9
        return (image // 2 + amount).to(torch.uint8)


class Remembers:
    """Gives every second image another brightness."""

    count = 0

    def __call__(self, image):
        self.count += 1
        return image // (1 + self.count % 2)


class Halves:
    def __call__(self, image):
        return image[:, ::2, ::2]


class Scales:
    def __call__(self, image):
        return image / 255


class Breaks:
    def __call__(self, image):
        raise KeyError("lost")


@pytest.fixture(autouse=True)
def my_module(monkeypatch):
    module = ModuleType("my_transforms")
    for part in (Noisy, Remembers, Halves, Scales, Breaks):
        setattr(module, part.__name__, part)
    monkeypatch.setitem(sys.modules, "my_transforms", module)


def part(name, **options):
    return OwnTransform(name=name if "." in name else f"my_transforms:{name}", options=options)


def split(augment, batch_size=16):
    return TrainSplit(
        *(torch.from_numpy(IMAGES), np.arange(50), np.arange(50), augment, batch_size, 12),
        Normalization((0.0,) * 3, (1 / 255,) * 3),
        CPU,
    )


def by_image(augment, batch_size=16, epoch=1, first_step=0):
    """Return the pixels of each image of an epoch, by its place in the data set."""
    return {
        int(label): image.round().to(torch.uint8).clone()
        for images, labels in split(augment, batch_size).batches(7, epoch, first_step)
        for image, label in zip(images, labels, strict=True)
    }


def test_an_image_gets_the_same_draws_in_any_batch_and_after_a_resume():
    transforms = (part("Noisy", most=30), part("torchvision.transforms.v2:RandomHorizontalFlip"))
    whole = by_image(transforms)
    assert len(whole) == 50
    for other in (by_image(transforms, 7), by_image(transforms, first_step=2)):
        assert other
        assert all(torch.equal(image, whole[place]) for place, image in other.items())
    later = by_image(transforms, epoch=2)
    assert sum(torch.equal(later[place], whole[place]) for place in whole) < 10
    # By hand, for one image.
    seed = derive_seed(7, "own transform", 1, 20)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    image = torch.from_numpy(IMAGES[20]).permute(2, 0, 1)
    assert torch.equal(v2.RandomHorizontalFlip()(Noisy(30)(image)), whole[20])


def test_they_come_after_flip_and_crop_and_before_the_others():
    invert = part("torchvision.transforms.v2:RandomInvert", p=1.0)
    cropped = by_image((Crop(padding=3), Flip()))
    changed = by_image((invert, Crop(padding=3), Flip()))
    assert all(torch.equal(changed[place], 255 - image) for place, image in cropped.items())
    assert by_image((invert, TrivialAugment()))


def test_global_generators_are_as_they_were():
    ours, torchs = random.getstate(), torch.get_rng_state()
    numpys = np.random.get_state(legacy=False)["state"]["key"].copy()
    by_image((part("Noisy"),))
    assert random.getstate() == ours
    assert (np.random.get_state(legacy=False)["state"]["key"] == numpys).all()
    assert torch.equal(torch.get_rng_state(), torchs)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("Noisy", {}, None),
        ("Noisy", {"mots": 3}, r"cannot be made: TypeError: .*'mots'"),
        ("Missing", {}, r"module my_transforms has no class Missing"),
        (
            "Halves",
            {},
            r"must return a uint8 image of shape \(3, 12, 12\).*uint8 of shape \(3, 6, 6\)",
        ),
        ("Scales", {}, r"must return a uint8 image .*returned float32 of shape"),
        ("Breaks", {}, r"KeyError: .*lost.*\(test_own_transform\.py:\d+\)"),
        ("Remembers", {}, r"gives other pixels for the same image .* no memory"),
        ("os.path:join", {}, r"module of Python's standard library"),
        ("torch:zeros", {"size": [3]}, r"makes a Tensor, which cannot be called"),
    ],
)
def test_a_transform_is_tried_before_training(
    name: str, options: dict[str, Any], expected: str | None
) -> None:
    full = name if ":" in name else f"my_transforms:{name}"
    if name == "os.path:join":
        with pytest.raises(ValueError, match=expected):
            OwnTransform(name=full)
        return
    problem = try_transform(full, options, 12)["problem"]
    if expected is None:
        assert problem is None
    else:
        assert not problem.startswith(full)  # the plan opens the line with its name
        assert re.search(expected, problem)


@pytest.mark.slow
def test_a_transform_that_ends_its_process_is_named(tmp_path, monkeypatch):
    (tmp_path / "ends.py").write_text(
        "import sys\n\nclass Ends:\n    def __call__(self, x):\n        sys.exit(3)\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    request = {"check": "transform", "name": "ends:Ends", "options": None, "side": 12}
    (answer,) = ask([request], [])
    assert answer["problem"] == "its code ended the process with exit code 3"
