"""Folders of pictures: splits by name, pixels of every mode, links, suffixes, the cache by file."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cnncore.config import TrialConfig
from cnncore.data import DataError, check_dataset, dataset, load_dataset, open_splits
from cnncore.data.folders import pictures
from cnncore.data.folders.split_folders import find_splits

SIDE = 8


@pytest.fixture(autouse=True)
def no_cached_loads():
    dataset._load.cache_clear()


def write(root, folders, count=5):
    random = np.random.default_rng(len(folders))
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{i}.png")


def check(root, cache, **options):
    return check_dataset(f"imagefolder:{root}", cache, SIDE, **options)


def read_one(tmp_path, save):
    """Return the decoded pixels of one picture that `save(path without suffix)` writes."""
    root = tmp_path / "own"
    write(root, ["train/b", "test/a", "test/b"], 1)
    (root / "train/a").mkdir(parents=True)
    save(root / "train/a/it")
    notes = " / ".join(check(root, tmp_path).notes)
    return load_dataset(f"imagefolder:{root}", tmp_path, SIDE).train_images[0], notes


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        ("Training Testing", "Training Testing"),
        ("TEST TRAIN", "TRAIN TEST"),
        ("seg_test seg_train", "seg_train seg_test"),
        ("test-images TrainSet validationset", "TrainSet validationset test-images"),
        ("asl_alphabet_test asl_alphabet_train", "asl_alphabet_train asl_alphabet_test"),
        ("dev test trn", "trn dev test"),
        ("test2017 train2017", "train2017 test2017"),
        ("test trainval", "trainval test"),
        ("beaker test_tube", ""),
        ("bus car train", ""),
        ("Train train test", "both be train"),
        ("trainA trainB testA testB", "both be train"),
        ("extra test train", "also holds extra"),
        ("train val", "no test"),
        ("learn test", "no train"),
        ("invalid valid", "another name"),
    ],
)
def test_folders_of_splits_are_told_by_their_names(folders, splits):
    def find():
        return " ".join(find_splits("x", "root", folders.split(), lambda folder: True).values())

    if " " in splits and splits.split()[0] not in folders.split():
        with pytest.raises(DataError, match=splits):
            find()
    else:
        assert find() == splits


def test_what_was_taken_for_what_is_said_and_classes_above_splits_are_refused(tmp_path):
    write(tmp_path / "own", ["Testing/a", "Testing/b", "Training/a", "Training/b"])
    info = check(tmp_path / "own", tmp_path)
    assert info.classes == ("a", "b")
    assert info.notes == ("folders taken as splits: Training as training, Testing as test",)
    write(tmp_path / "above", ["a/train", "a/test", "b/train", "b/test"])
    with pytest.raises(DataError, match=r"a holds test, train: put the folders of splits above"):
        check(tmp_path / "above", tmp_path)
    write(tmp_path / "others", ["first/a", "first/b", "second/a", "second/b"])
    notes = " ".join(check(tmp_path / "others", tmp_path).notes)
    assert "first, second are taken as classes, and each holds the folders a, b" in notes


def test_a_validation_folder_is_the_validation_split(tmp_path):
    write(tmp_path / "own", [f"{split}/{name}" for split in ("train", "val") for name in "ab"], 6)
    write(tmp_path / "own", ["test/a", "test/b"], 2)
    assert check(tmp_path / "own", tmp_path).validation == 12
    data = load_dataset(f"imagefolder:{tmp_path / 'own'}", tmp_path, SIDE)
    settings = {"arch": "cnn3", "dataset": "x", "optimizer": "sgd", "lr": 0.1, "epochs": 1}
    config = TrialConfig.model_validate({**settings, "val_fraction": None, "image_size": SIDE})
    splits = open_splits(config, data, torch.device("cpu"))
    assert (len(splits.train), len(splits.val), len(splits.test)) == (12, 12, 4)
    with Image.open(tmp_path / "own/val/a/0.png") as first:
        np.testing.assert_array_equal(splits.val.raw([0])[0], np.asarray(first))


def test_classes_are_the_same_however_accents_are_encoded(tmp_path):
    write(
        tmp_path, ["own/train/cafe\u0301", "own/train/日本", "own/test/caf\u00e9", "own/test/日本"]
    )
    assert check(tmp_path / "own", tmp_path).classes == ("cafe\u0301", "日本")
    os.mkdir(os.fsencode(tmp_path / "own/train") + b"/\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        check(tmp_path / "own", tmp_path)


RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)


@pytest.mark.parametrize(
    ("values", "suffix", "white", "said"),
    [
        ((RAMP * 1000).astype(np.uint16), "png", 65535, "0 to 65,535 become 0 to 255"),
        ((RAMP * 60).astype(np.uint16), "tif", 4095, "0 to 4,095 become 0 to 255"),
        ((RAMP * 40_000).astype(np.int32), "tif", 2**22 - 1, "0 to 4,194,303 become"),
        ((RAMP / 100).astype(np.float32), "tif", 1, "floating point: 0 to 1 become"),
        ((RAMP * 3).astype(np.float32), "tif", 255, "floating point: 0 to 255 become"),
    ],
)
def test_grey_of_more_than_8_bits_is_scaled_by_one_range(tmp_path, values, suffix, white, said):
    pixels, notes = read_one(
        tmp_path, lambda path: Image.fromarray(values).save(f"{path}.{suffix}")
    )
    expected = np.rint(values.astype(float) * (255 / white))
    np.testing.assert_array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))
    assert said in notes


def test_values_below_zero_are_scaled_from_the_lowest_to_the_highest(tmp_path):
    values = (RAMP * 50 - 1000).astype(np.int32)
    pixels, notes = read_one(tmp_path, lambda path: Image.fromarray(values).save(f"{path}.tif"))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert "-1,000 to 2,150 become 0 to 255" in notes


def test_the_range_holds_for_the_whole_folder_and_is_in_the_fingerprint(tmp_path):
    for name, level in (("dim", 1000), ("bright", 3000)):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(5):
            values = np.full((SIDE, SIDE), level + i, np.uint16)
            Image.fromarray(values).save(tmp_path / "own" / name / f"{i}.png")
    before = check(tmp_path / "own", tmp_path).fingerprint
    images = load_dataset(f"imagefolder:{tmp_path / 'own'}", tmp_path, SIDE).train_images
    assert (images.min(), images.max()) == (62, 187)
    values[0, 0] = 60_000
    Image.fromarray(values).save(tmp_path / "own/dim/6.png")
    check(tmp_path / "own", tmp_path)
    (tmp_path / "own/dim/6.png").unlink()
    assert check(tmp_path / "own", tmp_path).fingerprint == before


def test_pictures_are_turned_as_their_exif_orientation_says(tmp_path):
    upright = np.zeros((SIDE, SIDE, 3), np.uint8)
    upright[: SIDE // 2] = 255

    def save(path):
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(upright[::-1, ::-1]).save(f"{path}.png", exif=exif)

    pixels, notes = read_one(tmp_path, save)
    np.testing.assert_array_equal(pixels, upright)
    assert "1 image turned as their EXIF orientation says" in notes


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB"])
@pytest.mark.parametrize(("level", "ground"), [(0, 255), (255, 0)])
def test_transparency_is_laid_on_white_or_on_black_where_white_hides_it(
    tmp_path, mode, level, ground
):
    shape = np.zeros((SIDE, SIDE), bool)
    shape[2:4, 1:7] = True
    alpha = Image.fromarray(np.where(shape, 255, 0).astype(np.uint8))
    grey = Image.new("L", (SIDE, SIDE), level)

    def save(path):
        if mode in ("RGBA", "LA"):
            Image.merge(mode, [grey] * (len(mode) - 1) + [alpha]).save(f"{path}.png")
        elif mode == "PA":
            image = grey.convert("P")
            image.putalpha(alpha)
            image.save(f"{path}.tif")
        elif mode == "P":
            image = Image.fromarray(shape.astype(np.uint8), "P")
            image.putpalette([level] * 6)
            image.save(f"{path}.gif", transparency=0)
        else:
            colours = np.where(shape[..., None], level, 127).astype(np.uint8).repeat(3, axis=2)
            Image.fromarray(colours).save(f"{path}.png", transparency=(127, 127, 127))

    pixels, notes = read_one(tmp_path, save)
    np.testing.assert_array_equal(pixels[..., 0], np.where(shape, level, ground))
    assert "1 image with transparency: laid on white" in notes
    assert ("on black" in notes) == (ground == 0)


def test_plain_pictures_keep_their_fingerprint_and_others_change_it(tmp_path):
    root = tmp_path / "own"
    for name, level in (("a", 10), ("b", 200)):
        (root / name).mkdir(parents=True)
        for i in range(5):
            text = f"P2 2 2 255 {level} {level} {level} {i}\n"
            (root / name / f"{i}.pgm").write_text(text)
    assert check(root, tmp_path).fingerprint == "3e5adcc16b686011"  # of an earlier version
    (root / "a/notes.txt").write_text("no picture")
    info = check(root, tmp_path)
    assert info.fingerprint == "3e5adcc16b686011"
    assert "10 images of 11 files" in info.contents
    assert "a/notes.txt" in info.notes[-1]


def test_linked_folders_are_followed_but_not_in_a_loop_nor_into_two_classes(tmp_path):
    write(tmp_path, ["own/a", "own/b", "elsewhere"])
    own = tmp_path / "own"
    (own / "a/more").symlink_to(tmp_path / "elsewhere")
    (own / "a/again").symlink_to(tmp_path / "elsewhere")
    (own / "a/up").symlink_to(own)
    info = check(own, tmp_path)
    assert "15 images of 16 files" in info.contents
    assert "a/up" in info.notes[-1]
    (own / "b/theirs").symlink_to(own / "a")
    with pytest.raises(DataError, match=r"b/theirs is a folder of .*own/a too, by a link"):
        check(own, tmp_path)
    (own / "b/theirs").unlink()
    (own / "c").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"own/c is a link to a folder that is not there"):
        check(own, tmp_path)


def test_files_are_pictures_by_any_suffix_of_pillows_or_by_their_content(tmp_path):
    own = tmp_path / "own"
    write(own, ["a", "b"])
    with Image.open(own / "a/0.png") as image:
        for file, kind in (("x.jfif", "JPEG"), ("x.gif", "GIF"), ("x.tga", "TGA"), ("x", "PNG"),
                           ("x.jpg_large", "JPEG")):  # fmt: skip
            image.save(own / "a" / file, kind)
    (own / "a/movie.mp4").write_bytes(b"no picture")
    (own / "a/drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    os.mkfifo(own / "a/pipe.png")
    info = check(own, tmp_path)
    assert "15 images of 18 files" in info.contents
    assert "3 files not used" in info.notes[-1]
    shutil.copy(own / "a/drawing.eps", own / "a/0.png")  # never given to Ghostscript
    with pytest.raises(DataError, match=r"a/0\.png \(it is no picture that can be read"):
        check(own, tmp_path)


def test_a_file_is_read_once_and_again_only_if_it_changed(tmp_path, monkeypatch):
    own, read = tmp_path / "own", []
    write(own, ["a", "b"])
    look_at = pictures.look_at

    def counted(path, **options):
        read.append(path.name)
        return look_at(path, **options)

    monkeypatch.setattr(pictures, "look_at", counted)
    before = check(own, tmp_path)
    assert (len(read), check(own, tmp_path)) == (10, before)
    path = own / "a/3.png"
    status, content = path.stat(), bytearray(path.read_bytes())
    path.write_bytes(content[::-1])  # as long, and with its old modification time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=r"a/3\.png"):
        check(own, tmp_path)
    assert read[10:] == ["3.png"]


def test_copies_in_both_splits_and_in_two_classes_are_said(tmp_path):
    own = tmp_path / "own"
    write(own, ["train/a", "train/b", "test/a", "test/b"])
    shutil.copy(own / "train/a/0.png", own / "test/b/copy.png")
    notes = check(own, tmp_path).notes
    assert "1 test image also among the training images, such as copy.png" in notes[-2]
    assert notes[-1] == "1 image in more than one class, such as a and b"
