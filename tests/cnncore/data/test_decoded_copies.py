"""Decoded copies of pictures: made once, resumed after a kill, grown by what is new, removed."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnncore.data import DataError, check_dataset, dataset, decoding_need, load_dataset
from cnncore.data.cache import ImageData
from cnncore.data.copies import image_files
from cnncore.data.folders import decoding, imagefolder
from cnncore.data.sources.open import open_source
from tests.small_pictures import write_csv, write_parquet, write_pictures

SIDE = 8
PICTURES = 33


@pytest.fixture(autouse=True)
def no_cached_loads():
    dataset._load.cache_clear()


@pytest.fixture
def decoded(monkeypatch):
    """Collect the pictures that are decoded."""
    places = []
    decode = decoding._Decoder.decode

    def counted(self, index, content):
        places.append(str(self.places[index]))
        return decode(self, index, content)

    monkeypatch.setattr(decoding._Decoder, "decode", counted)
    return places


def load(name: str, cache: Path, **options) -> ImageData:
    dataset._load.cache_clear()
    return load_dataset(name, cache, SIDE, **options)


def copies(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / ".cache").iterdir() if path.is_dir())


def assert_as_new(data: ImageData, name: str, tmp_path: Path) -> None:
    """Compare with a copy that is decoded in one go elsewhere."""
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
    new = load(name, tmp_path / "elsewhere")
    assert data.fingerprint == new.fingerprint
    assert (data.mean, data.std) == (new.mean, new.std)
    for split in ("train", "test"):
        for what in ("images", "labels"):
            np.testing.assert_array_equal(
                getattr(data, f"{split}_{what}"), getattr(new, f"{split}_{what}")
            )


CHILD = """
import os, signal, sys
from cnncore.data import load_dataset
from cnncore.data.copies import image_files
from cnncore.data.folders import decoding
from cnncore.data.progress import show_progress

name, cache, log, stop_after = sys.argv[1:]
image_files.SAVE_EVERY_S = 0
decode, mark = decoding._Decoder.decode, image_files.ImageFiles.mark

def tell(text):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {text}\\n")

def counted(self, index, content):
    tell("decodes")
    return decode(self, index, content)

def stopping(self, index):
    mark(self, index)
    if self.done.sum() == int(stop_after):
        tell("stops")
        os.kill(os.getpid(), signal.SIGSTOP)

decoding._Decoder.decode = counted
image_files.ImageFiles.mark = stopping
show = lambda what, done, total, unit: tell("waits") if what.startswith("waiting") else None
with show_progress(show):
    load_dataset(name, cache, 8)
"""


def test_processes_wait_for_the_one_that_decodes_and_one_goes_on_if_it_is_killed(tmp_path):
    rows = write_pictures(tmp_path / "own")
    name = write_parquet(tmp_path / "shards", tmp_path / "own", rows)
    log = tmp_path / "log"

    def start(stop_after: int) -> subprocess.Popen[bytes]:
        arguments = [name, str(tmp_path), str(log), str(stop_after)]
        return subprocess.Popen([sys.executable, "-c", CHILD, *arguments])

    def wait_for(text: str, processes: int) -> None:
        until = time.monotonic() + 120
        while len(set(re.findall(rf"(\d+) {text}", log.read_text()))) < processes:
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)

    log.touch()
    first = start(10)
    try:
        wait_for("stops", 1)
        others = [start(-1) for _ in range(2)]
        wait_for("waits", 2)
        assert [folder[-5:] for folder in copies(tmp_path)] == [".part"]  # nothing counts as whole
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(60)
    assert [process.wait(120) for process in others] == [0, 0]
    decodes = re.findall(r"(\d+) decodes", log.read_text())
    own = [decodes.count(str(process.pid)) for process in others]
    assert sorted(own) == [0, PICTURES - 10]
    assert [folder[-2:] for folder in copies(tmp_path)] == ["-1"]
    assert_as_new(load(name, tmp_path), name, tmp_path)


def test_only_what_is_new_is_decoded_and_a_copy_without_use_is_removed(tmp_path, decoded):
    write_pictures(tmp_path / "own")
    name, root = f"imagefolder:{tmp_path}/own", tmp_path / "own/train/cat"
    first = load(name, tmp_path)
    assert len(decoded) == PICTURES

    def again() -> tuple[ImageData, list[str]]:
        decoded.clear()
        data = load(name, tmp_path)
        names = [Path(place).name for place in decoded]
        assert_as_new(data, name, tmp_path)
        return data, names

    Image.new("RGB", (9, 9), "red").save(root / "00.png")
    second, names = again()
    assert names == ["00.png"]
    assert len(copies(tmp_path)) == 2  # the first is still in use
    del first
    stamps = os.stat(root / "1.png")
    Image.new("RGB", (9, 9), "blue").save(root / "1.png")
    os.utime(root / "1.png", ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    third, names = again()
    assert names == ["1.png"]
    assert len(copies(tmp_path)) == 2
    del second, third
    (root / "2.png").rename(root / "3a.png")
    (root / "0.png").unlink()
    last, names = again()
    assert names == []
    assert [folder[-2:] for folder in copies(tmp_path)] == ["-1"]
    assert len(last.train_images) + len(last.test_images) == PICTURES


def test_pixels_are_taken_from_other_lists_and_not_from_other_ways_to_decode(tmp_path, decoded):
    rows = write_pictures(tmp_path / "own")
    load(f"imagefolder:{tmp_path}/own", tmp_path)
    listed = write_csv(tmp_path / "own/list.csv", rows[1:])
    assert_as_new(load(listed, tmp_path), listed, tmp_path)
    assert len(decoded) == PICTURES + PICTURES - 1  # the second time elsewhere
    twin = write_csv(tmp_path / "own/twin.csv", rows[1:])
    load(twin, tmp_path)
    assert len(copies(tmp_path)) == 2  # each is some data set's
    write_csv(tmp_path / "own/list.csv", rows[2:])
    load(listed, tmp_path)
    assert len(copies(tmp_path)) == 3  # the twin needs what the list has left
    for number, high in enumerate((4_095, 60_000)):
        grey = np.linspace(0, high, 64).reshape(8, 8).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / f"own/train/cat/wide{number}.png")
        decoded.clear()
        data = load(f"imagefolder:{tmp_path}/own", tmp_path)
        # The larger value changes the scale of the other picture too.
        assert len(decoded) == number + 1
        assert_as_new(data, f"imagefolder:{tmp_path}/own", tmp_path)
    decoded.clear()
    load(twin, tmp_path, resize="squash")
    assert len(decoded) == PICTURES - 1


def test_a_damaged_picture_is_named_and_the_others_stay_decoded(tmp_path, decoded):
    write_pictures(tmp_path / "own")
    name, damaged = f"imagefolder:{tmp_path}/own", tmp_path / "own/train/dog/3.png"
    # A whole header: that it is cut off shows when its pixels are decoded.
    Image.effect_noise((40, 40), 50).save(damaged)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-300])
    for count in (PICTURES, 1):
        decoded.clear()
        with pytest.raises(DataError, match=r"cannot read .*train/dog/3\.png \("):
            load(name, tmp_path)
        assert len(decoded) == count
    damaged.write_bytes(content)
    decoded.clear()
    data = load(name, tmp_path)
    assert decoded == [str(damaged)]
    assert_as_new(data, name, tmp_path)
    assert [folder[-2:] for folder in copies(tmp_path)] == ["-1"]


def test_a_picture_that_changes_while_it_is_decoded_is_named(tmp_path):
    write_pictures(tmp_path / "own")
    (tmp_path / ".cache").mkdir()
    roots = [tmp_path / ".cache"]
    source = open_source(f"imagefolder:{tmp_path}/own", tmp_path, roots, SIDE)
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "own/test/emu/1.png")
    with pytest.raises(DataError, match=r"changed since .*: .*test/emu/1\.png; run again"):
        source.read(None)


def test_a_disk_that_becomes_full_keeps_what_was_decoded(tmp_path, decoded, monkeypatch):
    write_pictures(tmp_path / "own")
    name = f"imagefolder:{tmp_path}/own"
    monkeypatch.setattr(image_files, "SAVE_EVERY_S", 0)
    written = 0

    def pwrite(*given):
        nonlocal written
        written += 1
        if written > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*given)

    write = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        data = load(name, tmp_path)
    assert not isinstance(data.train_images, np.memmap)
    assert_as_new(data, name, tmp_path)
    assert [folder[-5:] for folder in copies(tmp_path)] == [".part"]
    decoded.clear()
    data = load(name, tmp_path)
    assert 0 < len(decoded) <= PICTURES - 10
    assert isinstance(data.train_images, np.memmap)
    assert_as_new(data, name, tmp_path)
    monkeypatch.setattr(decoding, "memory_bytes", lambda: 1000)
    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(DataError, match=r"no disk has room for its decoded copy \(6,336 bytes\)"):
        load(name, tmp_path / "full")


def test_a_planned_data_set_is_opened_without_a_look_at_its_files(tmp_path, monkeypatch):
    write_pictures(tmp_path / "own")
    name, picture = f"imagefolder:{tmp_path}/own", tmp_path / "own/train/cat/0.png"
    (tmp_path / "own/test/cat/bad.png").write_bytes(b"")
    data_dir = tmp_path / "data"
    planned = check_dataset(name, data_dir, SIDE, skip_unreadable=True).fingerprint
    options = {"fingerprint": planned, "skip_unreadable": True}
    before = load(name, data_dir, **options)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9), "blue").save(picture)
    assert check_dataset(name, data_dir, SIDE, skip_unreadable=True).fingerprint != planned
    monkeypatch.setattr(imagefolder, "list_files", None)
    for again in (load(name, data_dir, **options), load("imagefolder:own", data_dir, **options)):
        np.testing.assert_array_equal(again.train_images, before.train_images)
        assert (again.fingerprint, again.skipped, again.validation) == (planned, 1, 6)
    with pytest.raises(TypeError):  # other options, so nobody has looked at it
        load(name, data_dir, fingerprint=planned)


def test_the_plan_knows_what_decoding_takes_until_it_is_done(tmp_path):
    rows = write_pictures(tmp_path / "own")
    names = [
        f"imagefolder:{tmp_path}/own",
        write_parquet(tmp_path / "shards", tmp_path / "own", rows),
    ]
    for name, new in zip(names, (PICTURES, 0), strict=True):
        planned = check_dataset(name, tmp_path, SIDE).fingerprint
        need = decoding_need(name, tmp_path, SIDE, planned)
        assert need is not None
        assert (need.pictures, need.new, need.side) == (PICTURES, new, SIDE)
        assert need.size == PICTURES * SIDE * SIDE * 3
        assert (0 < need.time_s < 60 and 0 < need.measured <= PICTURES) or not new
        data = load(name, tmp_path, fingerprint=planned)
        assert sum(array.nbytes for array in (data.train_images, data.test_images)) == need.size
        assert decoding_need(name, tmp_path, SIDE, planned) is None


MEMORY = """
import resource, sys
from pathlib import Path
from cnncore.data.cache import cache_roots
from cnncore.data.sources.open import open_source

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

work = Path(sys.argv[1])
for count in ("few", "many"):
    roots = cache_roots(work / count)
    source = open_source(f"imagefolder:{work}/{count}/own", work / count, roots, 160)
    before = peak_kib()
    source.read(roots[0])
print(peak_kib() - before)
"""


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    Image.effect_noise((32, 32), 50).save(tmp_path / "one.png")
    for folder, count in (("few", 40), ("many", 800)):
        for kind in "ab":
            (tmp_path / folder / "own" / kind).mkdir(parents=True)
            for i in range(count // 2):
                (tmp_path / folder / "own" / kind / f"{i}.png").symlink_to(tmp_path / "one.png")
    grown = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True
    )
    images_kib = 800 * 160 * 160 * 3 // 1024
    assert int(grown.stdout) < images_kib / 4
