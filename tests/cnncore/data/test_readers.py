"""Readers of pictures: the same pictures by a folder, a CSV file and Parquet are the same data."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from cnncore.data import DataError, check_dataset, dataset, decoding_need, load_dataset
from cnncore.data.cache import ARRAYS
from tests.small_pictures import CLASSES, three, write_csv, write_parquet, write_pictures

SIDE = 8
RGB = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_cached_loads():
    dataset._load.cache_clear()


def test_the_same_pictures_are_the_same_data_by_every_reader(tmp_path):
    names = three(tmp_path)
    infos = [check_dataset(name, tmp_path, SIDE) for name in names]
    loaded = [load_dataset(name, tmp_path, SIDE) for name in names]
    assert [info.classes for info in infos] == [CLASSES] * 3
    assert [info.validation for info in infos] == [data.validation for data in loaded] == [6] * 3
    for data in loaded[1:]:
        for array in ARRAYS:
            np.testing.assert_array_equal(getattr(data, array), getattr(loaded[0], array))
    assert infos[1].fingerprint == infos[2].fingerprint
    for info in infos:
        assert "18 for training, 6 for validation, 9 for test" in info.contents
        assert any("as validation" in note for note in info.notes)
        assert any("with transparency: laid on white" in note for note in info.notes)


def test_without_splits_every_reader_holds_back_the_same_fifth(tmp_path):
    rows = write_pictures(tmp_path / "own", {"": 10})
    names = [
        f"imagefolder:{tmp_path / 'own'}",
        write_csv(tmp_path / "own/list.csv", [row[:2] for row in rows], "File Name,Class"),
        write_parquet(tmp_path / "shards", tmp_path / "own", rows),
    ]
    for path in (tmp_path / "shards").iterdir():
        path.rename(path.with_name(path.name.removeprefix("-")))
    first, *others = [load_dataset(name, tmp_path, SIDE) for name in names]
    assert np.bincount(first.test_labels).tolist() == [2, 2, 2]
    for data in others:
        np.testing.assert_array_equal(data.test_images, first.test_images)
    assert "no splits: a fifth" in " ".join(check_dataset(names[1], tmp_path, SIDE).notes)


@pytest.mark.parametrize("kind", [1, 2])
def test_content_counts_and_names_do_not(tmp_path, kind):
    name = three(tmp_path)[kind]
    before = check_dataset(name, tmp_path, SIDE).fingerprint
    folder = {1: tmp_path / "own", 2: tmp_path / "shards"}[kind]
    moved = folder.rename(tmp_path / "moved")
    name = name.replace(str(folder), str(moved))
    assert check_dataset(name, tmp_path, SIDE).fingerprint == before
    found = {before}
    if kind == 1:
        path = moved / "train/cat/0.png"
        text = (moved / "list.csv").read_text()
        path.write_bytes(path.read_bytes() + b"\0")
        found.add(check_dataset(name, tmp_path, SIDE).fingerprint)
        for old, new in (("1.png,cat", "1.png,dog"), ("2.png,cat,train", "2.png,cat,test")):
            (moved / "list.csv").write_text(text.replace(f"train/cat/{old}", f"train/cat/{new}"))
            found.add(check_dataset(name, tmp_path, SIDE).fingerprint)
        assert len(found) == 4
        return
    shard = moved / "train-00000-of-00002.parquet"
    table = pq.read_table(shard)
    labels = table["label"].to_pylist()
    images = table["image"].to_pylist()
    images[0]["bytes"] += b"\0"
    other_image = table.set_column(0, "image", pa.array(images, table.schema.field("image").type))
    other_label = table.set_column(1, "label", pa.array([2, *labels[1:]], pa.int64()))
    for other in (other_image, other_label):
        pq.write_table(other.replace_schema_metadata(table.schema.metadata), shard)
        found.add(check_dataset(name, tmp_path, SIDE).fingerprint)
    assert len(found) == 3


def test_a_picture_that_only_changes_its_split_counts(tmp_path):
    rows = write_pictures(tmp_path / "own", {"train": 3})
    images = pa.array([(tmp_path / "own" / path).read_bytes() for path, *_ in rows])
    labels = pa.array([name for _, name, _ in rows])
    found = set()
    for train in (7, 8):
        splits = pa.array(["Train"] * train + ["Test"] * (9 - train))
        table = pa.table({"image": images, "label": labels, "split": splits})
        pq.write_table(table, tmp_path / "all.parquet")
        info = check_dataset("parquet:all.parquet", tmp_path, SIDE)
        assert f"{train} for training, {9 - train} for test" in info.contents
        assert "values of split taken as splits: Train as training, Test as test" in info.notes
        found.add(info.fingerprint)
    assert len(found) == 2


HEAD = "path,label,split\na.png,x,train\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{HEAD}b.png,y,train\nc.png,x,trian\n", "line 4, column split: unknown"),
        (f"{HEAD}b.png,,train\n", "line 3, column label: is empty"),
        (
            f"{HEAD}b.png,y,train\na.png,x,test\n",
            "a.png is test here and train in",
        ),
        (
            f"{HEAD}b.png,y,train\na.png,y,train\n",
            "a.png is y here and x in line 2",
        ),
        (
            f"{HEAD}none.png,y,train\n",
            "line 3, column path: there is no file .*none",
        ),
        (f"{HEAD}b.png,x,train\n", "two classes or more, got 1: x"),
        ("path,label,split\na.png,x,test\nb.png,y,test\n", "no picture is for training"),
        (f"{HEAD}a.png,x\n", "line 3 has 2 columns, and the first line 3"),
        ("a.png,x\nb.png,y\n", "no column is named like a path .* its columns: a.png, x"),
        ("path,label,class\na.png,x,y\n", "label and class may each be the column of the label"),
        (f"{HEAD}bad.png,y,train\n", r"bad.png \(line 3\).*--skip-unreadable"),
        ("", "the file is empty"),
        ("path,label\na.png,caf\xe9\n", "line 2 is not UTF-8"),
    ],
)
def test_a_csv_file_is_refused_with_line_and_column(tmp_path, text, problem):
    for i, name in enumerate(("a.png", "b.png", "c.png")):
        Image.fromarray(RGB + i).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=problem):
        check_dataset("csv:list.csv", tmp_path, SIDE)


def test_columns_can_be_chosen_and_numbers_are_classes_by_value(tmp_path):
    rows = []
    for label in ("2", "10", "1"):
        for i in range(3):
            Image.fromarray(RGB + i + int(label)).save(tmp_path / f"{label}-{i}.png")
            rows.append(f"{label}-{i}.png\t{label}\tx")
    # As Excel writes it, and with a word that is no column's usual name.
    text = "\r\n".join(["\ufefffile\tlabel\tclass", *rows, ""])
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    info = check_dataset("csv:list.csv?label=label", tmp_path, SIDE)
    assert info.classes == ("1", "2", "10")
    with pytest.raises(DataError, match=r"as path=NAME.*closest: label"):
        check_dataset("csv:list.csv?labels=label", tmp_path, SIDE)
    with pytest.raises(DataError, match=r"no column 'labl'.*closest: label"):
        check_dataset("csv:list.csv?label=labl", tmp_path, SIDE)


def replaced(path: Path, **columns: pa.Array) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.append_column(name, values)
    pq.write_table(table, path)


def test_what_parquet_files_do_not_tell_is_refused(tmp_path):
    rows = write_pictures(tmp_path / "own")
    name = write_parquet(tmp_path / "shards", tmp_path / "own", rows)
    shards = tmp_path / "shards"
    last = shards / "train-00001-of-00002.parquet"
    last.rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"train-\*-of-00002 .* 1 are missing, such as number 1"):
        check_dataset(name, tmp_path, SIDE)
    (tmp_path / "away").rename(last)
    replaced(last, more=pa.array([0] * 9))
    with pytest.raises(DataError, match="differ in their columns"):
        check_dataset(name, tmp_path, SIDE)
    shutil.rmtree(shards)
    shards.mkdir()
    images = pa.array([Path(tmp_path / "own" / path).read_bytes() for path, *_ in rows])
    fine = pa.array([name for _, name, _ in rows])
    coarse = pa.array([-1 if name == "cat" else 7 for _, name, _ in rows])
    table = pa.table({"img": images, "fine_label": fine, "coarse_label": coarse})
    pq.write_table(table, shards / "all.parquet", row_group_size=5)
    with pytest.raises(DataError, match=r"fine_label and coarse_label may .*\?label=fine_l"):
        check_dataset(name, tmp_path, SIDE)
    assert check_dataset(f"{name}?label=fine_label", tmp_path, SIDE).classes == CLASSES
    assert check_dataset(f"{name}?label=coarse_label", tmp_path, SIDE).classes == ("-1", "7")
    with pytest.raises(DataError, match="no column 'x'"):
        check_dataset(f"{name}?label=x", tmp_path, SIDE)
    nothing = table.set_column(1, "fine_label", pa.array([None, *fine.to_pylist()[1:]]))
    pq.write_table(nothing, shards / "all.parquet")
    with pytest.raises(DataError, match=r"row 1 of all.parquet, column fine_label: is empty"):
        check_dataset(f"{name}?label=fine_label", tmp_path, SIDE)
    (shards / "all.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        check_dataset(name, tmp_path, SIDE)


def test_a_damaged_parquet_file_is_named(tmp_path):
    rows = write_pictures(tmp_path / "own")
    name = write_parquet(tmp_path / "shards", tmp_path / "own", rows)
    shard = tmp_path / "shards/train-00000-of-00002.parquet"
    content = bytearray(shard.read_bytes())
    content[4:200] = bytes(196)  # the head of the first page; the schema is at the end
    shard.write_bytes(content)
    with pytest.raises(DataError, match=f"{shard} cannot be read as Parquet"):
        check_dataset(name, tmp_path, SIDE)
    with pytest.raises(DataError, match="path of a file or folder must stand after the colon"):
        check_dataset("parquet:", tmp_path, SIDE)


def test_a_label_of_minus_one_is_no_class(tmp_path):
    rows = write_pictures(tmp_path / "own", {"train": 2})
    name = write_parquet(tmp_path / "shards", tmp_path / "own", rows)
    shard = tmp_path / "shards/train-00001-of-00002.parquet"
    table = pq.read_table(shard)
    other = table.set_column(1, "label", pa.array([-1] * len(table), pa.int64()))
    pq.write_table(other.replace_schema_metadata(table.schema.metadata), shard)
    with pytest.raises(DataError, match="no class has the number -1; they go from 0 to 2"):
        check_dataset(name, tmp_path, SIDE)


def test_unreadable_rows_can_be_left_out_and_are_named(tmp_path):
    rows = write_pictures(tmp_path / "own")
    whole = write_csv(tmp_path / "own/list.csv", rows[1:])
    expected = check_dataset(whole, tmp_path, SIDE).fingerprint
    (tmp_path / "own" / rows[0][0]).write_bytes(b"no picture")
    name = write_parquet(tmp_path / "shards", tmp_path / "own", rows)
    with pytest.raises(DataError, match=r"train-00000-of-00002.parquet row 1 .*--skip-unreadable"):
        check_dataset(name, tmp_path, SIDE)
    info = check_dataset(name, tmp_path, SIDE, skip_unreadable=True)
    assert (info.skipped, info.fingerprint) == (1, expected)


def test_pictures_are_read_once_and_again_if_their_file_changes(tmp_path, monkeypatch):
    from cnncore.data.folders import pictures

    names = three(tmp_path)[1:]
    looked: list[object] = []
    look_at = pictures.look_at

    def counted(content, **how):
        looked.append(content)
        return look_at(content, **how)

    monkeypatch.setattr(pictures, "look_at", counted)
    for name in names * 2:
        check_dataset(name, tmp_path, SIDE)
    assert len(looked) == 2 * 33
    os.utime(tmp_path / "shards/train-00000-of-00002.parquet")
    check_dataset(names[1], tmp_path, SIDE)
    assert len(looked) == 2 * 33 + 9


@pytest.mark.parametrize(
    ("resize", "background", "expected"),
    [
        (None, None, lambda image: ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BILINEAR)),
        ("squash", None, lambda image: image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)),
        (
            "pad",
            (9, 99, 199),
            lambda image: ImageOps.pad(
                image, (SIDE, SIDE), Image.Resampling.BILINEAR, (9, 99, 199)
            ),
        ),
    ],
)
def test_pictures_become_square_in_the_stated_way(tmp_path, resize, background, expected):
    for i in range(4):
        Image.fromarray(RGB + i).save(tmp_path / f"{i}.png")
    rows = [("0.png", "a", "train"), ("1.png", "b", "train"), ("2.png", "a", "test")]
    name = write_csv(tmp_path / "list.csv", rows)
    load_dataset(name, tmp_path, SIDE)  # a copy of its own
    data = load_dataset(name, tmp_path, SIDE, resize=resize, background=background)
    with Image.open(tmp_path / "0.png") as image:
        np.testing.assert_array_equal(data.train_images[0], np.asarray(expected(image)))


def test_transparency_is_laid_on_the_stated_background(tmp_path):
    clear = np.zeros((SIDE, SIDE, 4), np.uint8)
    for i in range(3):
        Image.fromarray(clear + np.uint8(0)).save(tmp_path / f"{i}.png")
        clear[0, i] = (255, 0, 0, 255)
    rows = [("0.png", "a", "train"), ("1.png", "b", "train"), ("2.png", "a", "test")]
    name = write_csv(tmp_path / "list.csv", rows)
    data = load_dataset(name, tmp_path, SIDE, background=(9, 99, 199))
    assert data.test_images[0, 0, :3].tolist() == [[255, 0, 0], [255, 0, 0], [9, 99, 199]]
    assert (load_dataset(name, tmp_path, SIDE, background="black").train_images[0] == 0).all()
    assert (load_dataset(name, tmp_path, SIDE).train_images[0] == 255).all()


def test_copies_and_single_images_are_said(tmp_path):
    for i in range(4):
        Image.fromarray(RGB + i).save(tmp_path / f"{i}.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    rows = [("0.png", "a", "train"), ("1.png", "b", "train"), ("copy.png", "a", "test")]
    notes = " / ".join(check_dataset(write_csv(tmp_path / "l.csv", rows), tmp_path, SIDE).notes)
    assert "b has one image, which cannot be in every split" in notes
    assert "1 test image also among the training images, such as copy.png and 0.png of a" in notes


def test_a_disk_without_room_is_noticed_before_decoding(tmp_path, monkeypatch):
    name = three(tmp_path)[0]
    need = decoding_need(name, tmp_path, 224, check_dataset(name, tmp_path, 224).fingerprint)
    assert need is not None
    assert (need.pictures, need.new, need.size) == (33, 33, 33 * 224 * 224 * 3)
    asked = []

    def full(*given):
        asked.append(given[2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    data = load_dataset(name, tmp_path, SIDE)
    assert asked == [24 * SIDE * SIDE * 3 + 128]  # and the header of the file
    assert not isinstance(data.train_images, np.memmap)
    assert not [path for path in (tmp_path / ".cache").iterdir() if path.is_dir()]
