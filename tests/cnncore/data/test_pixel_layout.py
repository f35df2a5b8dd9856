"""Arrays and map-style data sets of the user's own: every usual dtype and layout, one rule."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from cnncore.data import DataError
from cnncore.data.arrays import checked
from cnncore.data.own_data import plain_arrays

GREY = np.random.default_rng(0).integers(0, 256, (10, 4, 4), dtype=np.uint8)
GREY[0, 0] = [0, 255, 1, 254]
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=3)
FIRST = COLOUR.transpose(0, 3, 1, 2)
LABELS = np.arange(10) % 2


def understood(images):
    """Return the images as RGB, in their order, and what they were taken for."""
    labels = {"train_labels": LABELS, "test_labels": LABELS, "class_names": ["a", "b"]}
    plain, how = plain_arrays("own:f", {"train_images": images, "test_images": images, **labels})
    return checked("own:f", plain).train_images, how


@pytest.mark.parametrize(
    ("images", "expected", "how"),
    [
        (COLOUR, COLOUR, ""),
        (GREY, GREY, ""),
        (FIRST, COLOUR, "images are uint8, channels first"),
        (COLOUR / 255, COLOUR, "images are float64 in [0, 1], scaled to 0..255"),
        ((FIRST / 255).astype("f4"), COLOUR, "float32 in [0, 1], channels first, scaled to 0..255"),
        (COLOUR.astype("f4"), COLOUR, "images are float32 in 0..255"),
        (GREY > 127, (GREY > 127) * 255, "bool (false is black, true is white), scaled to 0..255"),
        (GREY.astype("u2") * 257, GREY, "images are uint16 in 0..65535, scaled to 0..255"),
        (GREY.astype("i8"), GREY, "images are int64 in 0..255"),
        (torch.tensor(FIRST), COLOUR, "images are uint8, channels first"),
        (torch.tensor(GREY > 9).bfloat16(), (GREY > 9) * 255, "float32 in [0, 1], scaled"),
    ],
)
def test_arrays_of_every_usual_kind_are_understood(images, expected, how):
    whole, said = understood(images)
    expected = expected if expected.ndim == 4 else np.repeat(expected[..., None], 3, axis=3)
    np.testing.assert_array_equal(whole, expected)
    assert how in said
    assert bool(how) == bool(said)


def test_one_range_holds_for_train_and_test():
    test = {"test_images": np.full((2, 4, 4), 4095, np.uint16), "test_labels": [0, 1]}
    value = {"train_images": GREY.astype("u2"), "train_labels": LABELS, "class_names": ["a", "b"]}
    plain, how = plain_arrays("own:f", {**value, **test})
    assert "0..4095" in how
    np.testing.assert_array_equal(plain["train_images"], np.rint(GREY * (255 / 4095)))
    assert (plain["test_images"] == 255).all()


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (GREY / 255 - 0.5, "before any normalisation"),
        (GREY / 16, "neither 0 to 1 nor clearly 0 to 255"),
        (np.where(GREY > 9, np.nan, 0.5), "no finite numbers"),
        (np.zeros((10, 3, 3, 3), np.uint8), "may have its channels first or last"),
        ([np.zeros((4, 4)), np.zeros((5, 5))], "one array of images of one size"),
        (GREY.astype("c8"), "must be numbers or booleans, got complex64"),
        (np.zeros((10, 4, 5, 3), "f4"), "must be square"),
        (np.zeros((10, 4, 4, 4), np.uint8), "must have 1 or 3 channels, got 4"),
    ],
)
def test_what_could_be_meant_in_two_ways_is_refused(images, problem):
    with pytest.raises(DataError, match=problem):
        understood(images)


class Pictures(Dataset):
    classes = ("a", "b")

    def __init__(self, side=4, label=int):
        self.side, self.label = side, label

    def __len__(self):
        return 10

    def __getitem__(self, index):
        side = self.side if index == 7 else 4
        pixels = np.resize(COLOUR[index], (side, side, 3))
        return Image.fromarray(pixels), self.label(LABELS[index])


def test_items_of_a_data_set_are_its_arrays():
    for value in (Pictures(), (Pictures(), Subset(Pictures(), [1, 2]))):
        plain, how = plain_arrays("own:f", value)
        np.testing.assert_array_equal(plain["train_images"], COLOUR)
        assert (list(plain["train_labels"]), plain["class_names"]) == (list(LABELS), ["a", "b"])
        assert how == "items of Pictures"
    np.testing.assert_array_equal(plain["test_images"], COLOUR[1:3])
    tensors = TensorDataset(torch.tensor(FIRST / 255), torch.tensor(LABELS))
    plain, how = plain_arrays("own:f", {"train": tensors, "class_names": ["x", "y"]})
    np.testing.assert_array_equal(plain["train_images"], COLOUR)
    assert plain["class_names"] == ["x", "y"]
    assert how.startswith("items of TensorDataset; images are float64 in [0, 1], channels first")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (Pictures(side=5), r"item 7 of train is uint8 of shape \(5, 5, 3\), and item 0 uint8"),
        (Pictures(label=str), "item 0 of train: its label must be a whole number from 0, got str"),
        (TensorDataset(torch.zeros(3, 4, 4)), r"item 0 of train must be \(image, label\)"),
        ({"train": Pictures(), "valid": Pictures()}, "beside train stand test and class_names"),
    ],
)
def test_items_that_do_not_fit_are_named(value, problem):
    with pytest.raises(DataError, match=problem):
        plain_arrays("own:f", value)
