"""Networks of libraries and classes of the user's in trials: planned, paused, explained."""

import json
import sys
from pathlib import Path

import pytest
import timm
import torch

from cnncore.checkpoint import load_checkpoint, save_checkpoint
from cnncore.config import TrialConfig
from cnncore.training.train import EpochResult, train
from grid import load_sweep, make_plan
from grid.errors import SweepError
from grid.plan.ids import make_trial
from grid.trial.open import open_trial
from tests.small_sweeps import metrics, run_local, trial_rows

OWN = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.2))
        self.fc = nn.Linear(width, classes)
    def forward(self, x):
        return self.fc(self.scale * self.features(x).mean((2, 3)))

class Synced(Tiny):
    def __init__(self, classes):
        super().__init__(classes)
        self.norm = nn.SyncBatchNorm(4)

class Complex(Tiny):
    def __init__(self, classes):
        super().__init__(classes)
        self.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))

class Whole(Tiny):
    def __init__(self, classes):
        super().__init__(classes)
        self.count = nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)

class Deep(Tiny):
    def forward(self, x):
        return super().forward(nn.functional.conv3d(x[:, :, None], self.volume)[:, :, 0])
    def __init__(self, classes):
        super().__init__(classes)
        self.volume = nn.Parameter(torch.randn(3, 3, 1, 1, 1))

def stem(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 11, 4), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, classes))
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_nets", None)


def problems(path, data_dir):
    with pytest.raises(SweepError) as error:
        make_plan(load_sweep(path), data_dir=data_dir)
    return str(error.value).splitlines()


def test_the_plan_refuses_with_the_line_of_what_is_wrong(write_sweep, data_dir):
    def refusals(**fixed):
        archs = ["timm:resnet18.a1_in1k", "torchvision:alexnet", "timm:resnet81"]
        return problems(write_sweep(compare={"arch": archs}, fixed={**fixed, "lr": 0.1}), data_dir)

    tagged, small, unknown = refusals(image_size=32)
    assert "compare.arch: timm:resnet18.a1_in1k: a1_in1k names published weights" in tagged
    assert "but pretrained is null: set `pretrained: imagenet`, or leave .a1_in1k out" in tagged
    assert "fixed.image_size: torchvision:alexnet takes no images of 32 pixels; it needs" in small
    assert "compare.arch: unknown network 'resnet81' of timm (closest: resnet18)" in unknown
    first, *_ = refusals(arch_options={"drop_rat": 0.1}, pretrained="imagenet", image_size=64)
    assert "fixed.arch_options: timm:resnet18.a1_in1k does not take drop_rat" in first


def test_published_weights_enter_the_config_by_their_fingerprint(
    write_sweep, data_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    arch = "timm:resnet10t.c3_in1k"
    path = write_sweep(compare={"arch": [arch]}, fixed={"lr": 0.1, "pretrained": "imagenet"})
    (missing,) = problems(path, data_dir)
    assert "fixed.pretrained: the published weights of timm:resnet10t.c3_in1k are not on" in missing
    assert "put resnet10t_176_c3-f3215ab1.pth from https" in missing
    assert f"into {tmp_path}/checkpoints, or give the path of a file" in missing
    file = tmp_path / "checkpoints" / "resnet10t_176_c3-f3215ab1.pth"
    file.parent.mkdir()
    ids = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model("resnet10t").state_dict(), file)
        trial = make_plan(load_sweep(path), data_dir=data_dir).trials[0]
        assert trial.config.pretrained == "imagenet"
        assert len(str(trial.config.pretrained_fingerprint)) == 16
        ids.append(trial.config_id)
    assert ids[0] != ids[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"arch": "timm:test_vit", "arch_options": {"drop_rate": 0.2, "drop_path_rate": 0.1}},
        {"arch": "torchvision:shufflenet_v2_x0_5", "ema": 0.9},
        {"arch": "timm:test_byobnet", "freeze": "features"},
        {"arch": "own_nets:Tiny", "arch_options": {"width": 6}, "optimizer": "adam"},
        {"arch": "own_nets:Deep"},
    ],
    ids=lambda keys: keys["arch"],
)
def test_a_trial_of_anybodys_network_goes_on_bit_for_bit(keys, data_dir, tmp_path):
    config = TrialConfig.model_validate(
        {"dataset": "digits", "image_size": 32, "optimizer": "sgd", "lr": 0.01, "epochs": 2,
         "limit_train": 96, "batch_size": 32, **keys}
    )  # fmt: skip

    def opened(seed=0):
        return open_trial(
            make_trial(config, seed, ""), data_dir=data_dir, threads=1, device="cpu",
            module_path=None, skip_unreadable=False,
        )  # fmt: skip

    def rest(ready, folder=None, every_s=1e9):
        results = []
        for i, event in enumerate(
            train(ready.state, ready.splits, config, boundary_every_s=every_s)
        ):
            if folder:
                save_checkpoint(folder / f"{i}.pt", ready.state.state_dict())
            if isinstance(event, EpochResult):
                results.append((event.train_loss, event.val_loss, event.val_top1))
        return results, {k: v.clone() for k, v in ready.state.model.state_dict().items()}

    expected, weights = rest(opened(), tmp_path, 0.0)
    resumed = opened()
    for tensor in resumed.state.model.state_dict().values():
        tensor.zero_()
    resumed.state.load_state_dict(load_checkpoint(tmp_path / "1.pt"))  # after step 2 of 3
    results, final = rest(resumed)
    assert results == expected
    assert all(torch.equal(final[name], value) for name, value in weights.items())


def test_layers_that_cannot_be_trained_are_said_in_the_plan(write_sweep, cnngrid):
    archs = [f"own_nets:{name}" for name in ("Synced", "Complex", "Whole", "stem", "Tiny", "Deep")]
    path = write_sweep(compare={"arch": archs}, fixed={"image_size": 10, "lr": 0.1}, seeds=[0])
    result = cnngrid("plan", path)
    lines = result.stderr.splitlines()
    for line, part in zip(
        lines,
        (
            "Synced: norm is a SyncBatchNorm, which needs several processes",
            "Complex: the parameter phase is complex",
            "Whole: the parameter count holds numbers of the type int64, which have no gradient",
            "it needs images of at least 19 pixels, got 10",
        ),
        strict=True,
    ):
        assert part in line, line


@pytest.mark.slow
def test_a_library_trains_beside_ours_and_its_version_is_recorded(write_sweep, data_dir, cnngrid):
    archs = ["timm:test_resnet", "own_nets:Tiny", "mobilenet_small"]
    path = write_sweep(compare={"arch": archs}, fixed={"lr": 0.01, "epochs": 1}, seeds=[0])
    summary = run_local(path, Path("results"), data_dir)
    assert summary.states == {"complete": 3}
    rows = {row.arch: row for row in trial_rows(Path(summary.folder))}
    assert json.loads(rows["timm:test_resnet"].versions)["timm"] == timm.__version__
    assert "timm" not in json.loads(rows["own_nets:Tiny"].versions)
    assert all(row.macs for row in rows.values())
    assert metrics(summary.folder)["trials"]
    trial = rows["timm:test_resnet"].trial_id
    result = cnngrid("explain", summary.folder, "feature-maps", "--trial", trial, "-o", "map.png")
    assert result.returncode == 0, result.stderr
    assert cnngrid("debug", path).returncode == 0
