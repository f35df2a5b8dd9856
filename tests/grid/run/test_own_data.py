"""Sweeps over a data set of the user's own function whose content changes between runs."""

import re

import numpy as np
import pytest

from grid.store.folder import Store, now

DATA = """
import numpy as np
def data():
    images = np.load("images.npy")
    return dict(train_images=images, train_labels=np.arange(40) % 2, class_names=["a", "b"])
"""


@pytest.mark.slow
def test_trials_of_changed_data_are_run_again_and_never_mixed(cnngrid, write_sweep, tmp_path):
    def store_images(seed):
        images = np.random.default_rng(seed).integers(0, 255, (40, 8, 8, 3), np.uint8)
        np.save(tmp_path / "images.npy", images)

    (tmp_path / "changing.py").write_text(DATA)
    fixed = {"dataset": "changing:data", "image_size": 8, "epochs": 1, "augment": []}
    fixed |= {"limit_train": None, "limit_test": None}
    compare = {"arch": ["mobilenet_small"], "lr": [0.05, 0.01]}
    sweep = write_sweep(compare=compare, fixed=fixed, seeds=[0])
    store_images(0)
    assert cnngrid("run", sweep, "--local").returncode == 0
    assert "nothing to do" in cnngrid("run", sweep, "--local").stdout
    store = Store(tmp_path / "results" / "small")
    first = store.finished()
    store_images(1)
    assert "2 of them to run" in cnngrid("plan", sweep).stdout
    again = cnngrid("run", sweep, "--local")
    words = r"changing:data: 2 finished trials had other images or labels than it has now"
    assert re.search(words, " ".join(again.stderr.split()))
    question = "SELECT count(*), count(DISTINCT data_fingerprint) FROM trials"
    counts = cnngrid("sql", "results/small", question, "--format", "csv").stdout.split()
    assert counts[-1] == "2,1"
    # A trial of a version whose ids did not tell the data.
    new = next(trial_id for trial_id in store.finished() if trial_id not in first)
    old = (store.row(new) or {}) | {
        "trial_id": "0" * 12,
        "config": "{}",
        "started_at": now(),
        "ended_at": now(),
    }
    store.write("trials", old["trial_id"], [old])
    for trial_id in first:
        store.files.remove(store.table_path("trials", trial_id))
    words = "trials of an earlier version are run again, because their ids do not tell the data"
    assert words in " ".join(cnngrid("run", sweep, "--local").stderr.split())
