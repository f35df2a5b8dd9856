"""What the plan says of pictures that are not decoded yet, and what it leaves undecoded."""

import re
from pathlib import Path

import pytest

from cnncore.data import dataset, outline_planned, prepare_dataset
from grid import load_sweep, make_plan
from grid.cost import estimate
from grid.cost.decoding import decoding_notes
from grid.cost.plan_text import plan_text
from tests.small_pictures import write_pictures

SWEEP = """
sweep: own
compare: {arch: [cnn3]}
fixed:
  {dataset: "imagefolder:%s", image_size: 32, optimizer: sgd, lr: 0.1, epochs: 1, batch_size: 4}
seeds: [0]
"""


def test_a_plan_tells_what_decoding_takes_and_leaves_what_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset._load.cache_clear()
    write_pictures(tmp_path / "own")
    (tmp_path / "own.yaml").write_text(SWEEP % (tmp_path / "own"))
    plan = make_plan(load_sweep(tmp_path / "own.yaml"), data_dir=tmp_path)
    config = plan.trials[0].config
    assert not list((tmp_path / ".cache").glob("imagefolder-*"))  # labels are enough so far
    monkeypatch.setattr(estimate, "PLAN_DECODES_S", 0.0)
    text = plan_text(plan, tmp_path, estimate.estimate(plan, tmp_path, tmp_path))
    assert not list((tmp_path / ".cache").glob("imagefolder-*"))
    said = (
        r"decoding imagefolder:\S*own: 33 pictures once per node, 0\.1 MiB at 32x32 pixels; less "
        r"than a second on \d+ cores? \(measured here on \d+\)\n"
    )
    assert re.search(said, text)
    assert re.search(r"cost: 1 epoch, 18 training images; about \d+ s", text)
    outline = outline_planned(config, tmp_path)
    facts = plan.resolver.datasets()[config.dataset, 32]
    data = prepare_dataset(config.dataset, tmp_path, 32, fingerprint=facts.fingerprint)
    assert outline.train_images.shape == data.train_images.shape
    assert outline.test_labels.tolist() == data.test_labels.tolist()
    assert (outline.validation, outline.class_names) == (data.validation, data.class_names)
    assert outline.train_images.max() == 0 < data.train_images.max()
    assert outline_planned(config, tmp_path) is not outline
    assert decoding_notes(plan, tmp_path) == []
