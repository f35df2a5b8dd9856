"""Opening a trial for training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cnncore.config import TrialConfig
from cnncore.data import DataError
from cnncore.data.progress import tell_progress
from grid.plan.ids import make_trial
from grid.store.folder import Store
from grid.trial import trial
from grid.trial.assignment import Assignment
from grid.trial.open import open_trial

DRAWS = """
import torch
from torch import nn
def net(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, classes))
print(net(10)(torch.randn(2, 3, 8, 8)).shape)  # a quick look, as many scripts have
"""


def test_a_module_that_draws_when_it_is_imported_shifts_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "draws_on_import.py").write_text(DRAWS)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = TrialConfig.model_validate(
        {
            "arch": "draws_on_import:net",
            "dataset": "digits",
            "image_size": 8,
            "optimizer": "sgd",
            "lr": 0.1,
            "epochs": 1,
        }
    )
    weights = []
    for _ in range(2):  # in the first trial of a process, and in a later one
        ready = open_trial(
            make_trial(config, 0, ""),
            data_dir=tmp_path / "data",
            threads=torch.get_num_threads(),
            device="cpu",
            module_path=None,
            skip_unreadable=False,
        )
        weights.append(ready.state.model.state_dict())
    del sys.modules["draws_on_import"]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])


def test_data_that_changed_after_the_plan_are_refused(tmp_path: Path) -> None:
    for name in ("own/a", "own/b"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(5):
            (tmp_path / name / f"{i}.pgm").write_text(f"P2 2 2 255 {i} 9 9 {len(name)}\n")
    config = TrialConfig.model_validate(
        {
            "arch": "mobilenet_small",
            "dataset": f"imagefolder:{tmp_path}/own",
            "data_fingerprint": "0123456789abcdef",
            "image_size": 8,
            "optimizer": "sgd",
            "lr": 0.1,
            "epochs": 1,
        }
    )
    with pytest.raises(DataError, match="not those that the sweep was planned"):
        open_trial(
            make_trial(config, 0, ""),
            data_dir=tmp_path,
            threads=torch.get_num_threads(),
            device="cpu",
            module_path=None,
            skip_unreadable=False,
        )


def test_a_trial_gives_signs_of_life_while_pictures_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def opening(*given: object, **more: object) -> None:
        written.append(len(claims))
        for done in range(3):
            tell_progress("decoding own", done, 9, "pictures")
        written.append(len(claims))
        raise RuntimeError("seen enough")

    config = TrialConfig.model_validate(
        {"arch": "cnn3", "dataset": "digits", "optimizer": "sgd", "lr": 0.1, "epochs": 1}
    )
    store = Store(tmp_path / "results")
    claims: list[str] = []
    write = store.claims.write

    def counted(trial_id: str, claim: dict[str, Any]) -> None:
        claims.append(trial_id)
        write(trial_id, claim)

    monkeypatch.setattr(trial, "open_trial", opening)
    monkeypatch.setattr(store.claims, "write", counted)
    own = make_trial(config, 0, "")
    assignment = Assignment(
        *(own, "small", str(store.folder), str(tmp_path), 1, "cpu", "none", "all", 1e9, None),
        heartbeat_s=0,
    )
    assert [progress.state for progress in trial.run_trial(assignment, store)] == ["failed"]
    assert written[1] == written[0] + 3
