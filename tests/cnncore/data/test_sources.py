"""Data sets in their publishers' formats, read from small files that the tests write."""

import gzip
import hashlib
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cnncore.data import DataError, dataset, load_dataset
from cnncore.data.dataset import check_dataset
from cnncore.data.sources import cifar100, svhn
from cnncore.data.sources.safe_pickle import load_safe_pickle

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_cached_loads():
    dataset._load.cache_clear()


def write_cifar100(root: Path, per_class: int = 2) -> dict[str, np.ndarray]:
    """Write every fine class `per_class` times in both files; return the pixels by file."""
    (root / "cifar-100-python").mkdir(parents=True)
    coarse_of = cifar100.LABEL_SETS["coarse"][1]
    written = {}
    for name in ("train", "test"):
        fine = RANDOM.permutation(np.repeat(np.arange(100), per_class))
        planes = RANDOM.integers(0, 256, (len(fine), 3072), dtype=np.uint8)
        batch = {
            b"data": planes,
            b"fine_labels": fine.tolist(),
            b"coarse_labels": coarse_of[fine].tolist(),
        }
        (root / "cifar-100-python" / name).write_bytes(pickle.dumps(batch, protocol=2))
        written[name] = planes
    return written


def test_cifar100_has_fine_and_coarse_labels_of_the_same_images(tmp_path):
    planes = write_cifar100(tmp_path)
    fine = load_dataset("cifar100", tmp_path)
    coarse = load_dataset("cifar100", tmp_path, labels="coarse")
    assert (len(fine.class_names), len(coarse.class_names)) == (100, 20)
    assert coarse.train_images is fine.train_images
    np.testing.assert_array_equal(fine.train_images[0, 1, 2], planes["train"][0, [34, 1058, 2082]])
    for own, its_superclass in zip(fine.test_labels, coarse.test_labels, strict=True):
        name = coarse.class_names[its_superclass]
        assert fine.class_names[own] in cifar100.SUPERCLASSES[name]
    with pytest.raises(DataError, match=r"no labels 'rough'; it has fine and coarse"):
        load_dataset("cifar100", tmp_path, labels="rough")


@pytest.mark.skipif("CNNGRID_DATA" not in os.environ, reason="CNNGRID_DATA is not set")
def test_cifar100s_names_are_those_of_its_own_list():
    meta = Path(os.environ["CNNGRID_DATA"], "cifar-100-python", "meta")
    if not meta.is_file():
        pytest.skip(f"{meta} is not there")
    names = load_safe_pickle(meta.read_bytes())
    for key, labels in ((b"fine_label_names", "fine"), (b"coarse_label_names", "coarse")):
        assert tuple(n.decode() for n in names[key]) == cifar100.LABEL_SETS[labels][0]


def test_files_that_differ_from_the_published_ones_are_identified_by_content(tmp_path, monkeypatch):
    write_cifar100(tmp_path / "a")
    write_cifar100(tmp_path / "b", per_class=3)
    fingerprints = [check_dataset("cifar100", tmp_path / name).fingerprint for name in "ab"]
    assert None not in fingerprints
    assert fingerprints[0] != fingerprints[1]
    folder = tmp_path / "a" / "cifar-100-python"
    md5 = {
        name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in ("train", "test")
    }
    monkeypatch.setattr(cifar100, "FILES", replace(cifar100.FILES, md5=md5))
    assert check_dataset("cifar100", tmp_path / "a").fingerprint is None
    assert check_dataset("cifar100", tmp_path / "b").fingerprint == fingerprints[1]


class Touch:
    """An object that makes a folder if an ordinary unpickler loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path):
    write_cifar100(tmp_path)
    trap = tmp_path / "made"
    pickle.loads(pickle.dumps(Touch(trap)))
    trap.rmdir()  # the trap works with an ordinary unpickler
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps({b"data": Touch(trap)}))
    with pytest.raises(DataError, match=r"cifar-100-python/train cannot be read .it refers to "):
        load_dataset("cifar100", tmp_path)
    assert not trap.exists()


def test_coarse_labels_that_are_not_the_superclasses_are_refused(tmp_path):
    write_cifar100(tmp_path)
    path = tmp_path / "cifar-100-python" / "test"
    batch = pickle.loads(path.read_bytes())
    batch[b"coarse_labels"][7] = (batch[b"coarse_labels"][7] + 1) % 20
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(
        DataError, match=r"/test cannot be read .its coarse labels are not the superclasses"
    ):
        load_dataset("cifar100", tmp_path)


def write_fashion_mnist(root: Path) -> dict[str, np.ndarray]:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    arrays = {}
    for split, images in (("train", 40), ("t10k", 20)):
        pixels = RANDOM.integers(0, 256, (images, 28, 28), dtype=np.uint8)
        labels = (np.arange(images) % 10).astype(np.uint8)
        for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            path = folder / f"{split}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + values.tobytes()))
        arrays[split] = pixels
    return arrays


def test_fashion_mnist_is_read_from_its_idx_files(tmp_path):
    written = write_fashion_mnist(tmp_path)
    data = load_dataset("fashion_mnist", tmp_path)
    for channel in range(3):
        np.testing.assert_array_equal(data.train_images[..., channel], written["train"])
        np.testing.assert_array_equal(data.test_images[..., channel], written["t10k"])
    assert [data.class_names[label] for label in data.test_labels[8:11]] == [
        "Bag", "Ankle boot", "T-shirt/top"
    ]  # fmt: skip
    from torchvision.datasets import FashionMNIST

    assert tuple(FashionMNIST.classes) == data.class_names
    damaged = tmp_path / "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    dataset._load.cache_clear()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz cannot be read"):
        load_dataset("fashion_mnist", tmp_path)


def test_svhn_is_read_from_its_matlab_files_with_ten_meaning_zero(tmp_path):
    images = RANDOM.integers(0, 256, (32, 32, 3, 30), dtype=np.uint8)
    labels = np.arange(30)[:, None] % 10 + 1
    for name in svhn.FILES.md5:
        savemat(tmp_path / name, {"X": images, "y": labels.astype(np.uint8)})
    data = load_dataset("svhn", tmp_path)
    np.testing.assert_array_equal(data.test_images[4], images[..., 4])
    assert data.train_labels[[0, 8, 9]].tolist() == [1, 9, 0]
    (tmp_path / "train_32x32.mat").write_bytes(b"no matrices here")
    dataset._load.cache_clear()
    with pytest.raises(DataError, match=r"train_32x32\.mat cannot be read"):
        load_dataset("svhn", tmp_path)


def write_flowers(root: Path, classes: tuple[str, ...]) -> None:
    for name in classes:
        (root / "flowers" / name).mkdir(parents=True)
        for i in range(5):
            pixels = RANDOM.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "flowers" / name / f"{i}.png")


def test_flowers_are_a_folder_of_five_given_classes(tmp_path):
    classes = ("daisy", "dandelion", "rose", "sunflower", "tulip")
    write_flowers(tmp_path, classes)
    info, data = check_dataset("flowers", tmp_path), load_dataset("flowers", tmp_path, 16)
    assert (info.image_size, info.classes) == (224, classes)
    assert data.train_images.shape == (20, 16, 16, 3)
    assert data.fingerprint == info.fingerprint
    (tmp_path / "flowers" / "tulip").rename(tmp_path / "flowers" / "tulips")
    with pytest.raises(DataError, match=r"classes must be daisy.*holds .*tulips; use imagefolder:"):
        check_dataset("flowers", tmp_path)
    with pytest.raises(DataError, match=r"there is no folder .*flowers; put the images there"):
        check_dataset("flowers", tmp_path / "nowhere")
