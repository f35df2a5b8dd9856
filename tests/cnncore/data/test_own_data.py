"""Data sets of the user's own functions: called in fresh processes, told apart by content."""

import os
import shutil
import sys

import numpy as np
import pytest

from cnncore.data import DataError, check_dataset, dataset, load_dataset, own_data

DATA = """
import os, sys, threading
import numpy as np

def arrays(images):
    labels = np.arange(len(images)) % 2
    return dict(train_images=images, train_labels=labels, class_names=["a", "b"])

def data():
    os.chdir("/")
    os.environ["LEFT"] = "behind"
    print("a word of the function's")
    return arrays(np.load(os.path.join(os.path.dirname(__file__), "images.npy")))

def unseeded(): return arrays(np.random.default_rng().integers(0, 255, (10, 4, 4), np.uint8))
def by_the_clock():
    import time
    images = np.random.default_rng(int(time.time())).integers(0, 255, (10, 4, 4), np.uint8)
    return arrays(images)
def ends(): sys.exit(0)
def crashes(): os.abort()
def raises(): return arrays(images)
def floats():
    images = np.random.default_rng(0).random((10, 3, 4, 4), np.float32)
    return dict(arrays(images), train_labels=np.arange(10) // 9)
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A module of the user's own, `owndata`, and its file of images."""
    dataset._load.cache_clear()
    (tmp_path / "owndata.py").write_text(DATA)
    np.save(tmp_path / "images.npy", np.arange(160, dtype=np.uint8).reshape(10, 4, 4))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "owndata:data"


def test_a_users_function_returns_a_data_set_and_leaves_the_process_alone(own, tmp_path, capfd):
    before = os.getcwd(), dict(os.environ)
    info, data = check_dataset(own, tmp_path), load_dataset(own, tmp_path)
    assert (info.classes, info.image_size) == (("a", "b"), 4)
    assert info.fingerprint == data.fingerprint
    assert data.train_images.shape == (8, 4, 4, 3)
    assert data.test_labels.tolist() == [0, 1]
    assert (os.getcwd(), dict(os.environ)) == before
    assert "owndata" not in sys.modules
    assert capfd.readouterr().out == ""  # such as the JSON of `plan --json`


def test_what_was_understood_of_its_arrays_is_said_at_every_check(tmp_path):
    for _ in range(2):  # the second finds a copy
        info = check_dataset("owndata:floats", tmp_path)
        assert info.notes == (
            "images are float32 in [0, 1], channels first, scaled to 0..255",
            "b has one image, which cannot be in every split",
        )


@pytest.mark.slow
def test_its_content_is_known_by_its_fingerprint(own, tmp_path, monkeypatch):
    planned = check_dataset(own, tmp_path).fingerprint
    calls = []
    ask = own_data._ask

    def count(*given):
        calls.append(given)
        return ask(*given)

    monkeypatch.setattr(own_data, "_ask", count)
    assert check_dataset(own, tmp_path).fingerprint == planned
    assert len(calls) == 1  # an earlier process got the same
    np.save(tmp_path / "images.npy", np.zeros((10, 4, 4), np.uint8))
    assert check_dataset(own, tmp_path).fingerprint != planned
    # A trial that was planned before sees what was planned, or nothing.
    assert load_dataset(own, tmp_path, fingerprint=planned).train_images[1].any()
    shutil.rmtree(tmp_path / ".cache" / f"arrays-{planned}-1")
    dataset._load.cache_clear()
    with pytest.raises(DataError, match=r"other data .* than when the sweep was planned"):
        load_dataset(own, tmp_path, fingerprint=planned)


def test_without_a_disk_for_copies_the_data_are_checked_all_the_same(own, tmp_path):
    data = own_data.open_own_data(own, [tmp_path / "none"])
    assert own_data.open_own_data(own, [], data.fingerprint).fingerprint == data.fingerprint


@pytest.mark.parametrize("name", ["unseeded", "by_the_clock"])
def test_a_function_that_returns_other_data_each_time_is_refused(name, tmp_path):
    with pytest.raises(DataError, match=r"returns other data each time .* seed its random numbers"):
        check_dataset(f"owndata:{name}", tmp_path)
    assert not list((tmp_path / ".cache").iterdir())


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("owndata:ends", "SystemExit: 0 \\(owndata.py:"),
        ("owndata:crashes", "ended with signal SIGABRT"),
        ("owndata:raises", "NameError: .* \\(owndata.py:"),
        ("__main__:data", "what a script or notebook defines"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(tmp_path, name, problem):
    with pytest.raises(DataError, match=problem):
        check_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "closest"), [("imagefoldr:pictures", "imagefolder"), ("cvs:list.csv", "csv")]
)
def test_a_misspelt_kind_of_data_set_is_refused_with_the_closest(tmp_path, name, closest):
    with pytest.raises(DataError, match=rf"no kind of data set .*closest: {closest}\)"):
        check_dataset(name, tmp_path)
