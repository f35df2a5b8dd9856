"""A class without a single test image: named before anything runs, and one macro-F1 everywhere."""

import pytest

from analysis import connect
from analysis.results.database import rows

DATA = """
import numpy as np
def data():
    labels = np.arange(60) % 3
    images = np.repeat(labels.astype(np.uint8) * 80, 8 * 8 * 3).reshape(60, 8, 8, 3)
    few = labels < 2
    return dict(train_images=images, train_labels=labels, test_images=images[few],
                test_labels=labels[few], class_names=["a", "b", "rare", "never"])
"""


def test_a_class_without_images_is_named_and_counted_the_same_everywhere(
    cnngrid, write_sweep, tmp_path
):
    (tmp_path / "rare.py").write_text(DATA)
    fixed = {"dataset": "rare:data", "image_size": 8, "limit_train": None, "limit_test": None}
    fixed |= {"epochs": 2, "augment": []}
    sweep = write_sweep(compare={"arch": ["mobilenet_small"], "lr": [0.1]}, fixed=fixed, seeds=[0])
    planned = cnngrid("plan", sweep).stdout
    assert "rare:data: no train image of class never, which the networks cannot learn" in planned
    assert "rare:data: no test image of classes rare, never; macro averages leave out" in planned
    run = cnngrid("run", sweep, "--local")
    assert "no test image of classes rare, never" in " ".join(run.stderr.split())
    connection = connect(tmp_path / "results" / "small")
    (stored,) = rows(connection, "SELECT test_macro_f1 AS f1 FROM trials")
    (report,) = rows(connection, "SELECT avg(f1) AS f1 FROM classification WHERE split = 'test'")
    (classes,) = rows(connection, "SELECT avg(f1) AS f1 FROM classes WHERE split = 'test'")
    assert stored["f1"] == pytest.approx(report["f1"]) == pytest.approx(classes["f1"])
    shown = cnngrid("table", "results/small", "per-class").stdout
    assert "Without test images: rare, never;" in " ".join(shown.split())
