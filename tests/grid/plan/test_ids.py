import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import create_model

from cnncore.config import TrialConfig
from grid.errors import SweepError
from grid.plan.ids import digest, identity, make_trial
from grid.plan.plan import expand_sweep
from grid.sweep.load import parse_sweep

FROZEN = json.loads((Path(__file__).parent / "frozen_ids.json").read_text())


def test_frozen_ids_stay() -> None:
    # Changing one is a breaking change: every results folder would be trained again.
    assert len(FROZEN) >= 10
    for case in FROZEN:
        trial = make_trial(TrialConfig(**case["config"]), case["seed"], "")
        computed_ids = {
            "config_id": trial.config_id,
            "trial_id": trial.trial_id,
            "lineage_id": trial.lineage_id,
        }
        assert computed_ids == case["ids"], case["config"]


def test_ids_do_not_depend_on_key_order_or_spelling() -> None:
    plain: dict[str, Any] = {
        "arch": "cnn3",
        "dataset": "digits",
        "optimizer": "sgd",
        "lr": 1.0,
        "epochs": 3,
    }
    turned = dict(reversed(plain.items()))
    spelled = {**plain, "lr": 1, "epochs": 3.0, "momentum": 0.9}  # the default, given
    ids = {make_trial(TrialConfig(**c), 0, "").trial_id for c in (plain, turned, spelled)}
    assert len(ids) == 1


def test_ids_do_not_depend_on_process_or_hash_seed(tmp_path: Path) -> None:
    code = (
        "import json; from cnncore.config import TrialConfig; from grid.plan.ids import make_trial;"
        f"cases = json.load(open({str(Path(__file__).parent / 'frozen_ids.json')!r}));"
        "print([make_trial(TrialConfig(**c['config']), c['seed'], '').trial_id for c in cases])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{[case['ids']['trial_id'] for case in FROZEN]}\n"}


def test_a_new_key_with_a_null_default_changes_no_id() -> None:
    Later: Any = create_model("Later", __base__=TrialConfig, mixup=(float | None, None))
    for case in FROZEN:
        old, new = TrialConfig(**case["config"]), Later(**case["config"])
        assert digest(identity(new)) == digest(identity(old))
    case = FROZEN[0]["config"]
    assert digest(identity(Later(**case, mixup=0.2))) != digest(identity(TrialConfig(**case)))


def test_keys_that_do_not_apply_are_null() -> None:
    common: dict[str, Any] = {"arch": "cnn3", "dataset": "digits", "lr": 0.1, "epochs": 3}
    adam = TrialConfig(**common, optimizer="adam", momentum=0.5)
    assert adam.momentum is None
    assert adam.betas == (0.9, 0.999)
    assert TrialConfig(**common, optimizer="adamw").weight_decay == 0.01
    assert TrialConfig(**common, optimizer="sgd").momentum == 0.9


@pytest.mark.parametrize(
    ("schedule", "free"),
    [
        ("constant", True),
        ({"step": {"every": 5}}, True),
        ({"restarts": {"first": 1, "factor": 2}}, True),
        ("plateau", True),
        ({"exponential": {"factor": 0.9}}, True),
        ("cosine", False),
        ("one_cycle", False),
        ("linear", False),
        ({"polynomial": {"power": 2}}, False),
        ("warmup_stable_decay", False),
        ("own_rates:halves", False),
    ],
)
def test_lineage_exists_where_the_schedule_does_not_depend_on_the_budget(
    schedule: Any, free: bool
) -> None:
    common: dict[str, Any] = {"arch": "cnn3", "dataset": "digits", "optimizer": "sgd", "lr": 0.1}
    short, long = (
        make_trial(TrialConfig(**common, schedule=schedule, epochs=n), 0, "") for n in (3, 9)
    )
    assert short.trial_id != long.trial_id
    assert (short.lineage_id is not None) == free
    assert (short.lineage_id == long.lineage_id and short.lineage_id is not None) == free


def test_an_image_folder_counts_by_its_content_not_its_path() -> None:
    def ids(path: str, fingerprint: str) -> tuple[str, str]:
        spec = parse_sweep(
            f"sweep: s\ncompare: {{arch: [mobilenet_small], dataset: ['imagefolder:{path}']}}\n"
            "fixed: {image_size: 16, optimizer: sgd, lr: 0.1, epochs: 1}\n"
        )
        facts = SimpleNamespace(image_size=16, fingerprint=fingerprint, validation=0)
        plan = expand_sweep(spec, lambda name, size: facts)
        return plan.trials[0].trial_id, plan.cells[0].cell_id

    assert ids("/a", "1") == ids("/b", "1")
    assert ids("/a", "1") != ids("/a", "2")


def test_val_fraction_is_null_for_a_data_set_with_validation_images_of_its_own() -> None:
    facts = SimpleNamespace(image_size=16, fingerprint="1", validation=5)

    def plan(more: str) -> Any:
        text = (
            f"sweep: s\ncompare: {{arch: [mobilenet_small]{more}}}\n"
            "fixed: {dataset: 'imagefolder:a', image_size: 16, optimizer: sgd, lr: 1, epochs: 1}\n"
        )
        return expand_sweep(parse_sweep(text), lambda name, size: facts)

    assert plan("").trials[0].config.val_fraction is None
    with pytest.raises(SweepError, match="val_fraction decides nothing"):
        plan(", val_fraction: [0.1, 0.2]")
