"""Data sets by name: checks, reading, decoding into the cache, refusals with a reason."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cnncore.catalog import DATASETS
from cnncore.data import DataError, DataMissing, check_dataset, dataset, load_dataset
from cnncore.data.arrays import checked
from cnncore.data.folders import pictures
from cnncore.data.sources import cifar10


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path_factory, monkeypatch):
    dataset._load.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "no-cache"))


def write_images(root, counts, side=(20, 30)):
    random = np.random.default_rng(0)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (*side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")
    return f"imagefolder:{root}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["digits", *(pytest.param(n, marks=pytest.mark.soak) for n in DATASETS if n != "digits")],
)
def test_every_data_set_is_what_the_catalog_says(name, tmp_path):
    folder = tmp_path if name == "digits" else os.environ.get("CNNGRID_DATA")
    if folder is None:
        pytest.skip("CNNGRID_DATA is not set")
    try:
        info, data = check_dataset(name, folder), load_dataset(name, folder)
    except DataMissing as missing:
        pytest.skip(str(missing))
    entry = DATASETS[name]
    assert info.class_count == entry.classes == len(data.class_names)
    assert info.classes == data.class_names
    for images, labels in (
        (data.train_images, data.train_labels),
        (data.test_images, data.test_labels),
    ):
        assert images.dtype == np.uint8
        assert images.shape == (len(labels), entry.image_size, entry.image_size, 3)
        assert set(labels) == set(range(entry.classes))
    assert isinstance(data.train_images, np.memmap)
    np.testing.assert_allclose(data.mean, data.train_images.mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(data.std, data.train_images.std((0, 1, 2)) / 255, rtol=1e-6)


def test_a_decoded_copy_is_used_again_and_a_damaged_one_is_made_again(tmp_path, monkeypatch):
    first = load_dataset("digits", tmp_path)
    assert load_dataset("digits", tmp_path) is first
    dataset._load.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("cnncore.data.sources.digits.read_digits", None)
        again = load_dataset("digits", tmp_path)
    assert again.fingerprint == first.fingerprint
    dataset._load.cache_clear()
    images = tmp_path / ".cache" / "digits-1" / "train_images.npy"
    images.write_bytes(images.read_bytes()[:1000])
    repaired = load_dataset("digits", tmp_path)
    assert repaired.fingerprint == first.fingerprint
    np.testing.assert_array_equal(repaired.train_images, np.load(images))


def test_many_can_prepare_at_once(tmp_path):
    planned = dataset.Planned("digits", str(tmp_path), None, False, dataset.ANY, None, None)
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(dataset._load.__wrapped__, planned) for _ in range(5)]
        assert len({load.result().fingerprint for load in loads}) == 1
    assert os.listdir(tmp_path / ".cache") == ["digits-1"]


def test_data_that_cannot_be_cached_stay_in_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    roots = [tmp_path / "file" / "below", tmp_path / "missing"]
    monkeypatch.setattr(dataset, "cache_roots", lambda _: roots)
    data = load_dataset("digits", tmp_path)
    assert not isinstance(data.train_images, np.memmap)
    assert len(data.train_labels) + len(data.test_labels) == 1797


def test_checking_loads_no_torch(tmp_path):
    code = """
import sys
from cnncore.data import check_dataset
check_dataset("digits", sys.argv[1])
print([name for name in ("torch", "sklearn", "torchvision") if name in sys.modules])
"""
    printed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert printed.stdout.strip() == "[]", printed.stderr


def test_a_missing_cifar10_names_the_files_and_their_folder(tmp_path, monkeypatch):
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"short")
    for attempt in (check_dataset, load_dataset):
        monkeypatch.setattr("torchvision.datasets.CIFAR10", no_network)
        with pytest.raises(DataError, match=r"data_batch_1, .*test_batch") as caught:
            attempt("cifar10", tmp_path)
        assert str(folder) in str(caught.value)
        assert isinstance(caught.value, DataMissing) == (attempt is check_dataset)


def no_network(*_, **__):
    raise OSError("no network")


def test_a_damaged_cifar10_file_is_named(tmp_path, monkeypatch):
    (tmp_path / cifar10.FOLDER).mkdir()
    for name in (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES):
        (tmp_path / cifar10.FOLDER / name).write_bytes(b"four")
    files = {name: (4, md5) for name, (_, md5) in cifar10.TRAIN_FILES.items()}
    monkeypatch.setattr(cifar10, "TRAIN_FILES", files)
    monkeypatch.setattr(cifar10, "TEST_FILES", {"test_batch": (4, "")})
    check_dataset("cifar10", tmp_path)
    with pytest.raises(DataError, match=r"data_batch_1 is damaged"):
        load_dataset("cifar10", tmp_path)


def test_an_unknown_name_is_refused_with_the_closest(tmp_path):
    with pytest.raises(DataError, match=r"unknown data set 'digit' .closest: digits."):
        check_dataset("digit", tmp_path)


def test_a_folder_of_images_is_identified_by_its_content(tmp_path):
    name = write_images(tmp_path / "one", {"cat": 10, "dog": 15})
    info = check_dataset(name, tmp_path, 16)
    data = load_dataset(name, tmp_path, 16)
    assert info.classes == data.class_names == ("cat", "dog")
    assert info.fingerprint == data.fingerprint
    assert np.bincount(data.test_labels).tolist() == [2, 3]
    assert data.train_images.shape == (20, 16, 16, 3)
    moved = (tmp_path / "one").rename(tmp_path / "two")
    assert check_dataset(f"imagefolder:{moved}", tmp_path, 16).fingerprint == info.fingerprint
    assert check_dataset("imagefolder:two", tmp_path, 16).fingerprint == info.fingerprint
    (moved / "cat" / "0.png").rename(moved / "cat" / "9a.png")
    assert check_dataset(f"imagefolder:{moved}", tmp_path, 16).fingerprint != info.fingerprint


def test_images_are_scaled_and_cut_to_the_centre(tmp_path):
    name = write_images(tmp_path / "own", {"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 1})
    data = load_dataset(name, tmp_path, 20)
    with Image.open(tmp_path / "own/train/a/0.png") as image:
        np.testing.assert_array_equal(data.train_images[0], np.asarray(image)[:, 5:25])
    assert load_dataset(name, tmp_path, 8).train_images.shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({"only": 2}, "sub-folder per class, two or more; found only"),
        ({"a": 2, "b": 0}, "no images in .*b"),
        ({"train/a": 1, "train/b": 1, "test/a": 1, "test/c": 1}, "only in train: b; .*: c"),
        ({"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 1, "val/a": 1}, "only in train: b"),
        ({"train/a": 1, "train/b": 1, "test/a": 1, "test/b": 1, "more/a": 1}, "also holds more"),
        ({"train": 1, "val": 1}, "expected either train and test"),
    ],
)
def test_a_folder_in_another_layout_is_refused(tmp_path, counts, problem):
    name = write_images(tmp_path / "own", counts)
    with pytest.raises(DataError, match=problem):
        check_dataset(name, tmp_path, 8)


def test_an_unreadable_image_is_named_and_leaves_nothing_behind(tmp_path):
    name = write_images(tmp_path / "own", {"a": 5, "b": 5})
    (tmp_path / "own/a/broken.jpg").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"a/broken\.jpg"):
        load_dataset(name, tmp_path, 8)
    assert not [entry for entry in os.listdir(tmp_path / ".cache") if entry.endswith(".tmp")]
    with pytest.raises(DataError, match="image_size must be set"):
        check_dataset(name, tmp_path)
    with pytest.raises(DataError, match=r"there is no folder .*absent"):
        check_dataset("imagefolder:absent", tmp_path, 8)


def test_unreadable_images_can_be_left_out(tmp_path, monkeypatch):
    name = write_images(tmp_path / "own", {"a": 5, "b": 5})
    whole = check_dataset(name, tmp_path, 8)
    assert check_dataset(name, tmp_path, 8, skip_unreadable=True) == whole
    for path in ("a/broken.jpg", "b/0a.png"):
        (tmp_path / "own" / path).write_bytes(b"not an image")
    with pytest.raises(DataError, match="--skip-unreadable"):
        load_dataset(name, tmp_path, 8)
    info = check_dataset(name, tmp_path, 8, skip_unreadable=True)
    data = load_dataset(name, tmp_path, 8, skip_unreadable=True)
    assert (info.fingerprint, data.fingerprint) == (whole.fingerprint, whole.fingerprint)
    assert (info.skipped, data.skipped) == (2, 2)
    assert len(data.train_labels) + len(data.test_labels) == 10
    monkeypatch.setattr(pictures, "look_at", None)  # cached, not tried again
    assert check_dataset(name, tmp_path, 8, skip_unreadable=True) == info
    monkeypatch.undo()
    for i in range(5):
        (tmp_path / "own" / "a" / f"{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no images in .*a"):
        check_dataset(name, tmp_path, 8, skip_unreadable=True)


GREY = np.zeros((10, 4, 4), np.uint8)
GOOD = {"train_images": GREY, "train_labels": [0, 1] * 5, "class_names": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"train_images": GREY.astype(float)}, "must be uint8 .* got float64"),
        ({"train_images": np.zeros((10, 4, 5, 3), np.uint8)}, "square, got 4x5"),
        ({"train_images": np.zeros((10, 4, 4, 2), np.uint8)}, "1 or 3 channels, got 2"),
        ({"train_labels": [0, 2] * 5}, "must be 0 to 1, .* got 0 to 2"),
        ({"train_labels": [0.5] * 10}, "must be integers"),
        ({"train_labels": [0, 1]}, "10 train_images but 2 train_labels"),
        ({"train_labels": [1] * 10}, "all of one class"),
        ({"class_names": ["a", "a"]}, "different names"),
        ({"test_images": GREY, "test_labels": []}, "there are no test images"),
        ({"extra": 1}, "unknown: extra"),
    ],
)
def test_every_problem_of_a_functions_arrays_is_named(change, problem):
    with pytest.raises(DataError, match=problem):
        checked("own:data", GOOD | change)
