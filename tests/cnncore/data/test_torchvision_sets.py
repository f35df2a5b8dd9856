"""torchvision's data sets, read by torchvision from small files in their publishers' layouts."""

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from cnncore.data import DataError, DataMissing, check_dataset, dataset, load_dataset
from cnncore.data.sources import torchvision_sets
from cnncore.data.sources.torchvision_table import SETS, find_set

SIDE = 8
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_cached_loads():
    dataset._load.cache_clear()


def picture(path: Path) -> np.ndarray:
    pixels = RANDOM.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(struct.pack(">HBB", 0, 8, values.ndim) + shape + values.tobytes())


def write_mnist(folder: Path, prefix: str = "", first: int = 0) -> np.ndarray:
    for split, count in (("train", 20), ("t10k", 10)):
        word = f"{prefix}{'train' if split == 'train' else 'test'}" if prefix else split
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{word}-images-idx3-ubyte", images)
        labels = np.arange(count, dtype=np.uint8) % 10 + first
        write_idx(folder / f"{word}-labels-idx1-ubyte", labels)
    return images


def test_mnist_and_its_like_keep_their_official_splits(tmp_path):
    test = write_mnist(tmp_path / "KMNIST/raw")
    info = check_dataset("torchvision:KMNIST", tmp_path)
    data = load_dataset("torchvision:KMNIST", tmp_path, fingerprint=info.fingerprint)
    assert (info.image_size, info.class_count, len(data.train_labels)) == (28, 10, 20)
    np.testing.assert_array_equal(data.test_images[..., 0], test)
    assert data.class_names == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    raw = (tmp_path / "KMNIST/raw/t10k-images-idx3-ubyte").read_bytes()
    (tmp_path / "KMNIST/raw/t10k-images-idx3-ubyte").write_bytes(raw[:-1] + b"\x01")
    assert check_dataset("torchvision:KMNIST", tmp_path).fingerprint != info.fingerprint
    dataset._load.cache_clear()
    with pytest.raises(DataError, match="not those that the sweep was planned with"):
        load_dataset("torchvision:KMNIST", tmp_path, fingerprint=info.fingerprint)


def test_the_letters_of_emnist_are_26_classes(tmp_path):
    write_mnist(tmp_path / "EMNIST/raw", "emnist-letters-", first=1)
    info = check_dataset("torchvision:EMNIST-letters", tmp_path)
    assert info.classes == tuple("abcdefghijklmnopqrstuvwxyz")
    data = load_dataset("torchvision:EMNIST-letters", tmp_path)
    assert (data.train_labels.min(), data.test_labels.max()) == (0, 9)
    assert any("mirrored along their diagonal" in note for note in info.notes)


def test_stl10_is_read_from_its_binaries(tmp_path, monkeypatch):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = RANDOM.integers(0, 256, (20, 3, 96, 96), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10 + 1
    content = {
        "train_X.bin": pixels.tobytes(),
        "train_y.bin": labels.tobytes(),
        "unlabeled_X.bin": b"",
        "test_X.bin": pixels[:10].tobytes(),
        "test_y.bin": labels[:10].tobytes(),
        "class_names.txt": "\n".join("abcdefghij").encode(),
    }
    for name, written in content.items():
        (folder / name).write_bytes(written)
    kind = torchvision.datasets.STL10
    for listed in ("train_list", "test_list"):
        own = [[name, hashlib.md5(content[name]).hexdigest()] for name, _ in getattr(kind, listed)]
        monkeypatch.setattr(kind, listed, own)
    data = load_dataset("torchvision:STL10", tmp_path)
    assert data.class_names == tuple("abcdefghij")
    # A file holds column after column of each channel.
    np.testing.assert_array_equal(data.train_images[3], pixels[3].transpose(2, 1, 0))
    assert data.test_labels.tolist() == list(range(10))


def write_flowers(root: Path, monkeypatch) -> dict[int, np.ndarray]:
    base = root / "flowers-102"
    pixels = {i: picture(base / f"jpg/image_{i:05}.jpg") for i in range(1, 13)}
    savemat(base / "imagelabels.mat", {"labels": np.array([1 + i % 3 for i in range(12)])})
    splits = {"trnid": np.arange(1, 7), "valid": np.arange(7, 10), "tstid": np.arange(10, 13)}
    savemat(base / "setid.mat", splits)
    kind = torchvision.datasets.Flowers102
    files = {
        key: (name, hashlib.md5((base / name).read_bytes()).hexdigest())
        for key, (name, _) in kind._file_dict.items()
        if key != "image"
    }
    monkeypatch.setattr(kind, "_file_dict", {**kind._file_dict, **files})
    return pixels


def write_food(root: Path, monkeypatch) -> None:
    meta = root / "food-101/meta"
    meta.mkdir(parents=True, exist_ok=True)
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        listed = {name: [f"{name}/{i}" for i in numbers] for name in ("pie", "soup")}
        (meta / f"{split}.json").write_text(json.dumps(listed))
    for name in ("pie", "soup"):
        for i in range(6):
            picture(root / f"food-101/images/{name}/{i}.jpg")


def write_signs(root: Path, monkeypatch) -> None:
    for number in range(3):
        for i in range(3):
            picture(root / f"gtsrb/GTSRB/Training/{number:05}/{i}.ppm")
    lines = ["Filename;ClassId"]
    for i in range(3):
        picture(root / f"gtsrb/GTSRB/Final_Test/Images/{i:05}.ppm")
        lines.append(f"{i:05}.ppm;{i}")
    (root / "gtsrb/GT-final_test.csv").write_text("\n".join(lines))


def write_pets(root: Path, monkeypatch) -> None:
    base = root / "oxford-iiit-pet"
    for split, numbers in (("trainval", range(4)), ("test", range(4, 6))):
        lines = []
        for label, name in enumerate(("Sphynx", "great_pyrenees"), 1):
            for i in numbers:
                picture(base / f"images/{name}_{i}.jpg")
                lines.append(f"{name}_{i} {label} {label} 1")
        (base / "annotations").mkdir(exist_ok=True)
        (base / f"annotations/{split}.txt").write_text("\n".join(lines))


def write_textures(root: Path, monkeypatch) -> None:
    base = root / "dtd/dtd"
    (base / "labels").mkdir(parents=True)
    for split, first in (("train", 0), ("val", 3), ("test", 6)):
        own = [f"{name}/{name}_{first + i}.jpg" for name in ("lined", "woven") for i in range(3)]
        for path in own:
            picture(base / "images" / path)
        (base / f"labels/{split}1.txt").write_text("\n".join(own))


def write_satellite(root: Path, monkeypatch) -> None:
    for name in ("Forest", "River"):
        for i in range(10):
            picture(root / f"eurosat/2750/{name}/{name}_{i}.jpg")


def write_caltech(root: Path, monkeypatch) -> None:
    picture(root / "caltech101/101_ObjectCategories/BACKGROUND_Google/image_0001.jpg")
    for name in ("ant", "bass"):
        for i in range(1, 11):
            picture(root / f"caltech101/101_ObjectCategories/{name}/image_{i:04}.jpg")


def write_imagenette(root: Path, monkeypatch) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for wnid in ("n01440764", "n02102040"):
            for i in range(count):
                picture(root / f"imagenette2-160/{split}/{wnid}/{i}.JPEG")


def write_imagenet(root: Path, monkeypatch) -> None:
    import torch

    write_imagenette(root, monkeypatch)
    (root / "imagenette2-160").rename(root / "imagenet")
    names = {"n01440764": ("crane",), "n02102040": ("crane",)}
    torch.save((names, []), root / "imagenet/meta.bin")


NETTE = ("tench, Tinca tinca", "English springer, English springer spaniel")
# What writes the files, the names of the classes or their count, images for train, val and test.
SPLITS: dict[str, tuple[Any, Any, tuple[int, int, int]]] = {
    "Flowers102": (write_flowers, 102, (6, 3, 3)),
    "Food101": (write_food, ("pie", "soup"), (8, 0, 4)),
    "GTSRB": (write_signs, ("0", "1", "2"), (9, 0, 3)),
    "OxfordIIITPet": (write_pets, ("Sphynx", "Great Pyrenees"), (8, 0, 4)),
    "DTD": (write_textures, ("lined", "woven"), (6, 6, 6)),
    "EuroSAT": (write_satellite, ("Forest", "River"), (16, 0, 4)),
    "Caltech101": (write_caltech, ("ant", "bass"), (16, 0, 4)),
    "Imagenette-160px": (write_imagenette, NETTE, (8, 0, 4)),
    "ImageNet": (write_imagenet, ("crane (n01440764)", "crane (n02102040)"), (8, 0, 4)),
}


@pytest.mark.parametrize("name", SPLITS)
def test_picture_files_keep_their_official_splits(name, tmp_path, monkeypatch):
    write, classes, (train, val, test) = SPLITS[name]
    write(tmp_path, monkeypatch)
    info = check_dataset(f"torchvision:{name}", tmp_path, SIDE)
    data = load_dataset(f"torchvision:{name}", tmp_path, SIDE, fingerprint=info.fingerprint)
    counts = (len(data.train_labels) - data.validation, data.validation, len(data.test_labels))
    assert counts == (train, val, test)
    if isinstance(classes, int):
        assert info.class_count == classes
    else:
        assert info.classes == classes
    # Official labels, by torchvision's own items.
    official = find_set(f"torchvision:{name}")
    opened = torchvision_sets._open(name, official, tmp_path)
    if "test" in opened:
        theirs = sorted((label, image.tobytes()) for image, label in opened["test"])
        ours = zip(data.test_labels, data.test_images, strict=True)
        assert sorted((int(label), image.tobytes()) for label, image in ours) == theirs
    monkeypatch.setattr(torchvision_sets, "_construct", None)  # cached, not asked again
    assert check_dataset(f"torchvision:{name}", tmp_path, SIDE) == info


def test_what_is_missing_is_downloaded_by_a_run_and_not_by_a_plan(tmp_path, monkeypatch):
    with pytest.raises(DataMissing, match=r"Food101 .*food-101 is not there; `cnngrid run` downl"):
        check_dataset("torchvision:Food101", tmp_path, SIDE)

    def download(self):
        write_food(Path(self.root), None)

    monkeypatch.setattr(torchvision.datasets.Food101, "_download", download)
    assert len(load_dataset("torchvision:Food101", tmp_path, SIDE).train_labels) == 8
    with pytest.raises(DataError, match=r"stanford_cars is not there; put its files"):
        check_dataset("torchvision:StanfordCars", tmp_path, SIDE)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("flowers102", "'flowers102' .*closest: Flowers102"),
        ("EMNIST", "one of EMNIST-byclass, .*EMNIST-mnist"),
        ("CocoDetection", "no classification data set 'CocoDetection'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(name, problem, tmp_path):
    with pytest.raises(DataError, match=problem):
        check_dataset(f"torchvision:{name}", tmp_path, SIDE)


def test_every_name_is_a_class_of_torchvision():
    for official in SETS.values():
        assert hasattr(torchvision.datasets, official.class_name)


@pytest.mark.slow
def test_a_second_check_loads_no_torch(tmp_path):
    write_food(tmp_path, None)
    code = """
import sys
from cnncore.data import check_dataset
check_dataset("torchvision:Food101", sys.argv[1], 8)
print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    printed = [subprocess.check_output(command, text=True).strip() for _ in range(2)]
    assert printed == ["True", "False"]
