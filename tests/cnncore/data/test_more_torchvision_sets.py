"""More of torchvision's data sets, read from tiny files in the layout of their publishers."""

import bz2
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from cnncore.data import DataError, check_dataset, dataset, load_dataset
from cnncore.data.sources import torchvision_sets
from cnncore.data.sources.torchvision_table import find_set
from tests.cnncore.data.test_torchvision_sets import SIDE, picture, write_idx

RANDOM = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def no_cached_loads():
    dataset._load.cache_clear()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels_of(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def write_cars(root: Path, monkeypatch: Any) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(["AM", "BMW"], dtype=object)})
    kind = [("fname", object), ("class", np.uint8)]
    for split, file, count in (
        ("train", "devkit/cars_train_annos.mat", 6),
        ("test", "cars_test_annos_withlabels.mat", 4),
    ):
        rows = [(f"{i:05}.jpg", i % 2 + 1) for i in range(count)]
        for name, _ in rows:
            picture(base / f"cars_{split}" / name)
        savemat(base / file, {"annotations": np.array(rows, dtype=kind)})


def write_aircraft(root: Path, monkeypatch: Any) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    data.mkdir(parents=True)
    names = ("707-320", "Falcon 2000", "DR-400")
    (data / "variants.txt").write_text("\n".join(names))
    for split, first in (("train", 0), ("val", 6), ("test", 9)):
        count = 6 if split == "train" else 3
        lines = [f"{first + i:07} {names[i % 3]}" for i in range(count)]
        (data / f"images_variant_{split}.txt").write_text("\n".join(lines))
        for line in lines:
            picture(data / "images" / f"{line[:7]}.jpg")


def write_caltech256(root: Path, monkeypatch: Any) -> None:
    for number, name in ((1, "ak47"), (2, "american-flag")):
        for i in range(1, 11):
            folder = root / f"caltech256/256_ObjectCategories/{number:03}.{name}"
            picture(folder / f"{number:03}_{i:04}.jpg")
        (folder / "RENAME2").write_text("not a picture")


def write_countries(root: Path, monkeypatch: Any) -> None:
    for split, count in (("train", 4), ("valid", 2), ("test", 3)):
        for country in ("AD", "ZW"):
            for i in range(count):
                picture(root / f"country211/{split}/{country}/{i}.jpg")


def write_reviews(root: Path, monkeypatch: Any) -> None:
    for split, count in (("train", 4), ("valid", 2), ("test", 3)):
        for label in ("negative", "positive"):
            for i in range(count):
                picture(root / f"rendered-sst2/{split}/{label}/{i}.png")


def write_scenes(root: Path, monkeypatch: Any) -> None:
    base = root / "SUN397"
    base.mkdir()
    names = ("a/abbey", "b/balcony/exterior", "b/balcony/interior")
    (base / "ClassName.txt").write_text("".join(f"/{name}\n" for name in names))
    for name in names:
        for i in range(5):
            picture(base / name / f"sun_{name.replace('/', '')}{i}.jpg")


def write_places(root: Path, monkeypatch: Any) -> None:
    base = root / "places365"
    for split, folder, count in (("train_standard", "data_256_standard", 6), ("val", "val_256", 4)):
        lines = []
        for i in range(count):
            own = f"/{'ab'[i % 2]}/{i}.jpg"
            picture(base / folder / own[1:])
            lines.append(f"{own} {i % 2}")
        (base / f"places365_{split}.txt").write_text("\n".join(lines))
    (base / "categories_places365.txt").write_text("/a/airfield 0\n/b/barn 1\n")
    kind = torchvision.datasets.Places365
    lists = {
        split: (file, md5(base / file))
        for split, (file, _) in kind._FILE_LIST_META.items()
        if split in ("train-standard", "val")
    }
    monkeypatch.setattr(kind, "_FILE_LIST_META", lists)
    categories = "categories_places365.txt"
    monkeypatch.setattr(kind, "_CATEGORIES_META", (categories, md5(base / categories)))


def write_species(root: Path, monkeypatch: Any) -> None:
    for version, count in (("2021_train_mini", 4), ("2021_valid", 2)):
        for name in SPECIES:
            for i in range(count):
                picture(root / f"inaturalist/{version}/{name}/{i}.jpg")


SPECIES = tuple(
    f"{i:05}_Animalia_Chordata_Aves_Passeriformes_Corvidae_Corvus_{name}"
    for i, name in enumerate(("corax", "corone"))
)
FILES: dict[str, tuple[Any, tuple[str, ...], tuple[int, int, int]]] = {
    "StanfordCars": (write_cars, ("AM", "BMW"), (6, 0, 4)),
    "FGVCAircraft": (write_aircraft, ("707-320", "Falcon 2000", "DR-400"), (6, 3, 3)),
    "Caltech256": (write_caltech256, ("001.ak47", "002.american-flag"), (16, 0, 4)),
    "Country211": (write_countries, ("AD", "ZW"), (8, 4, 6)),
    "RenderedSST2": (write_reviews, ("negative", "positive"), (8, 4, 6)),
    "Places365-256px": (write_places, ("/a/airfield", "/b/barn"), (6, 0, 4)),
    "INaturalist-mini": (write_species, SPECIES, (8, 0, 4)),
    "SUN397": (write_scenes, ("abbey", "balcony/exterior", "balcony/interior"), (12, 0, 3)),
}


@pytest.mark.parametrize("name", FILES)
def test_pictures_have_the_splits_and_labels_that_torchvision_gives(name, tmp_path, monkeypatch):
    write, classes, (train, val, test) = FILES[name]
    write(tmp_path, monkeypatch)
    info = check_dataset(f"torchvision:{name}", tmp_path, SIDE)
    data = load_dataset(f"torchvision:{name}", tmp_path, SIDE, fingerprint=info.fingerprint)
    counts = (len(data.train_labels) - data.validation, data.validation, len(data.test_labels))
    assert counts == (train, val, test)
    assert info.classes == classes
    opened = torchvision_sets._open(name, find_set(f"torchvision:{name}"), tmp_path)
    items = [item for split in opened.values() for item in split]
    theirs = sorted((int(label), np.asarray(image).tobytes()) for image, label in items)
    ours = [*zip(data.train_labels, data.train_images, strict=True)]
    ours += zip(data.test_labels, data.test_images, strict=True)
    assert sorted((int(label), image.tobytes()) for label, image in ours) == theirs


def write_pcam(root: Path, monkeypatch: Any) -> dict[str, Any]:
    h5py = pytest.importorskip("h5py")
    (root / "pcam").mkdir()
    images = {}
    for split, count in (("train", 6), ("valid", 3), ("test", 4)):
        images[split] = pixels_of(count, 96, 96, 3)
        path = root / f"pcam/camelyonpatch_level_2_split_{split}"
        with h5py.File(f"{path}_x.h5", "w") as file:
            file["x"] = images[split]
        with h5py.File(f"{path}_y.h5", "w") as file:
            file["y"] = (np.arange(count, dtype=np.uint8) % 2).reshape(-1, 1, 1, 1)
    return {"train": np.concatenate([images["train"], images["valid"]]), "test": images["test"]}


def write_faces(root: Path, monkeypatch: Any) -> dict[str, Any]:
    images = pixels_of(11, 48, 48)
    usages = ["Training"] * 7 + ["PublicTest", "PrivateTest"] * 2
    lines = ["emotion,pixels,Usage"]
    for i, (image, usage) in enumerate(zip(images, usages, strict=True)):
        lines.append(f"{i % 7},{' '.join(map(str, image.ravel()))},{usage}")
    file = root / "fer2013/fer2013.csv"
    file.parent.mkdir()
    file.write_text("\n".join(lines))
    kind = torchvision.datasets.FER2013
    monkeypatch.setattr(kind, "_RESOURCES", {**kind._RESOURCES, "fer": (file.name, md5(file))})
    return {"train": images[:7], "test": images[7:]}


def write_usps(root: Path, monkeypatch: Any) -> dict[str, Any]:
    images = {}
    for split, file, count in (("train", "usps.bz2", 20), ("test", "usps.t.bz2", 10)):
        images[split] = pixels_of(count, 16, 16)
        values = images[split].reshape(count, -1) / 255 * 2 - 1
        lines = [
            f"{i % 10 + 1} " + " ".join(f"{j + 1}:{value:.6f}" for j, value in enumerate(row))
            for i, row in enumerate(values)
        ]
        (root / file).write_bytes(bz2.compress("\n".join(lines).encode()))
    return images


def write_house_numbers(root: Path, monkeypatch: Any) -> dict[str, Any]:
    images, listed = {}, {}
    for split, count in (("train", 20), ("test", 10)):
        images[split] = pixels_of(count, 32, 32, 3)
        labels = (np.arange(count, dtype=np.uint8) + 9) % 10 + 1  # 10 stands for the digit 0
        file = root / f"{split}_32x32.mat"
        savemat(file, {"X": images[split].transpose(1, 2, 3, 0), "y": labels[:, None]})
        listed[split] = ["", file.name, md5(file)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", listed)
    return images


def write_qmnist(root: Path, monkeypatch: Any) -> dict[str, Any]:
    images = {}
    for split, count in (("train", 20), ("test", 10)):
        images[split] = pixels_of(count, 28, 28)
        base = root / "QMNIST/raw"
        write_idx(base / f"qmnist-{split}-images-idx3-ubyte", images[split])
        rows = np.zeros((count, 8), dtype=">i4")
        rows[:, 0] = np.arange(count) % 10
        header = bytes([0, 0, 12, 2]) + count.to_bytes(4, "big") + (8).to_bytes(4, "big")
        (base / f"qmnist-{split}-labels-idx2-int").write_bytes(header + rows.tobytes())
    return images


ARRAYS: dict[str, tuple[Any, int, int, int]] = {
    "PCAM": (write_pcam, 96, 2, 3),
    "FER2013": (write_faces, 48, 7, 0),
    "USPS": (write_usps, 16, 10, 0),
    "SVHN": (write_house_numbers, 32, 10, 0),
    "QMNIST": (write_qmnist, 28, 10, 0),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_have_the_pixels_of_their_files_and_the_splits(name, tmp_path, monkeypatch):
    write, side, classes, validation = ARRAYS[name]
    images = write(tmp_path, monkeypatch)
    info = check_dataset(f"torchvision:{name}", tmp_path)
    assert (info.image_size, info.class_count) == (side, classes)
    data = load_dataset(f"torchvision:{name}", tmp_path, fingerprint=info.fingerprint)
    assert data.validation == validation
    for split, got in (("train", data.train_images), ("test", data.test_images)):
        wanted = images[split]
        wanted = wanted if wanted.ndim == 4 else np.repeat(wanted[..., None], 3, axis=3)
        # USPS is text: its values come back within a grey level.
        assert np.abs(got.astype(int) - wanted).max() <= (1 if name == "USPS" else 0)
    trained = len(data.train_labels) - validation
    for labels in (data.train_labels[:trained], data.test_labels):
        assert labels.tolist() == [i % classes for i in range(len(labels))] or name == "FER2013"


def test_semeion_gets_a_fixed_fifth_of_each_class_as_its_test_split(tmp_path, monkeypatch):
    bits = RANDOM.integers(0, 2, (50, 256))
    labels = np.arange(50) % 10
    rows = np.hstack([bits, np.eye(10, dtype=int)[labels]])
    file = tmp_path / "semeion.data"
    file.write_text("\n".join(" ".join(f"{value:.4f}" for value in row) for row in rows))
    monkeypatch.setattr(torchvision.datasets.SEMEION, "md5_checksum", md5(file))
    info = check_dataset("torchvision:SEMEION", tmp_path)
    data = load_dataset("torchvision:SEMEION", tmp_path, fingerprint=info.fingerprint)
    assert (info.image_size, info.class_count) == (16, 10)
    assert sorted(data.test_labels.tolist()) == list(range(10))
    assert any("a fixed fifth" in note for note in info.notes)
    every = {image.tobytes() for image in (*data.train_images, *data.test_images)}
    assert every == {np.repeat(row.reshape(16, 16, 1) * 255, 3, 2).astype(np.uint8).tobytes()
                     for row in bits}  # fmt: skip


def test_a_package_that_a_data_set_needs_is_named(tmp_path, monkeypatch):
    (tmp_path / "pcam").mkdir()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"torchvision:PCAM: needs the package h5py.*pip install"):
        check_dataset("torchvision:PCAM", tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CelebA", "40 attributes of each picture, not one class.*csv:"),
        ("INaturalist-tiny", "no classification data set 'INaturalist-tiny'.*closest: INat"),
    ],
)
def test_a_data_set_that_does_not_fit_says_why_and_what_to_do(name, reason, tmp_path):
    with pytest.raises(DataError, match=reason):
        check_dataset(f"torchvision:{name}", tmp_path, SIDE)
