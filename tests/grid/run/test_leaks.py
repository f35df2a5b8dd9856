"""Networks that change settings of their process: no other trial's numbers change."""

import os
import sys

import pytest
import torch

from cnncore.process_settings import ProcessSettings
from grid.store.folder import Store
from tests.small_sweeps import metrics

NETWORKS = """
import os, random, torch
from torch import nn
torch.set_num_threads(3)                      # on import

class Net(nn.Module):
    def __init__(self, classes, change=None):
        super().__init__()
        self.layer, self.change = nn.Linear(192, classes), change
    def forward(self, x):
        if self.change and len(x) > 2:            # not when the plan tries it
            self.change()
        return self.layer(x.flatten(1))

def good(classes): return Net(classes)

def bad_when_built(classes):
    net = Net(classes)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    os.chdir("/")
    return net

def change():
    torch.use_deterministic_algorithms(True, warn_only=True)
    os.environ["LEFT"] = "behind"
    os.chdir("/")
    torch.manual_seed(random.randrange(1000))

def bad_in_training(classes): return Net(classes, change)
def fails(classes): return Net(classes, lambda: torch.set_grad_enabled(False))
"""


@pytest.fixture
def leaky(tmp_path):
    (tmp_path / "leaky.py").write_text(NETWORKS)
    yield
    sys.modules.pop("leaky", None)


@pytest.mark.parametrize(
    "how",
    [("--local",), pytest.param(("--slots", "1"), marks=[pytest.mark.slow, pytest.mark.soak])],
)
def test_a_trial_is_the_same_after_networks_that_change_their_process(
    leaky, cnngrid, cnngrid_process, write_sweep, tmp_path, how
):
    cnngrid = cnngrid if how == ("--local",) else cnngrid_process
    bad = [f"leaky:{name}" for name in ("bad_when_built", "bad_in_training", "fails")]
    before, folder, random = ProcessSettings(), os.getcwd(), torch.get_rng_state()
    settings = {"fixed": {"image_size": 8, "epochs": 2, "lr": 0.1, "augment": []}, "seeds": [0]}
    mixed = {"compare": {"arch": ["leaky:good", *bad]}, **settings, "seeds": [0, 1]}
    first = cnngrid("run", write_sweep("mixed.yaml", sweep="mixed", **mixed), *how)
    alone = {"compare": {"arch": ["leaky:good"]}, **settings, "seeds": [0, 1]}
    cnngrid("run", write_sweep("alone.yaml", sweep="alone", **alone), *how)
    rows = metrics(tmp_path / "results" / "mixed")["trials"]
    by_arch = {row["arch"].partition(":")[2]: row for row in rows}
    good = [row["trial_id"] for row in rows if row["arch"] == "leaky:good"]
    of_good, expected = (
        {
            table: [row for row in content if row["trial_id"] in good]
            for table, content in metrics(tmp_path / "results" / name).items()
        }
        for name in ("mixed", "alone")
    )
    for row in (*of_good["trials"], *expected["trials"]):
        row.pop("sweep")
    assert of_good == expected
    assert len(good) == 2
    store = Store(tmp_path / "results" / "mixed")
    stored = {name: store.row(row["trial_id"]) or {} for name, row in by_arch.items()}
    changed = {name: row["changed_settings"] for name, row in stored.items()}
    assert "default dtype" in changed["bad_when_built"]
    assert "grad mode" in changed["bad_when_built"]
    assert "environment (when trained)" in changed["bad_in_training"]
    assert by_arch["bad_in_training"]["state"] == "complete"
    assert by_arch["fails"]["state"] == "failed"
    assert "grad mode (when trained)" in changed["fails"]
    assert "leaky:bad_when_built changed settings of its process" in " ".join(first.stderr.split())
    assert os.getcwd() == folder
    assert set(before.changed()) <= {"the environment"}  # Ray's, in this process
    assert "LEFT" not in os.environ
    assert torch.equal(torch.get_rng_state(), random)
