"""Optimizers and schedules of the user's own in a plan: what their signatures decide."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grid.code import asked as own_code
from grid.errors import SweepError
from grid.plan.plan import expand_sweep
from grid.sweep.load import parse_sweep

FACTS = SimpleNamespace(image_size=8, class_count=10, fingerprint=None, validation=0)
OWN = """
import torch

class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.1, *, sharp=1.0, on=False):
        super().__init__(params, dict(lr=lr))
    def step(self, closure=None): pass

class Closure(Lion):
    def step(self, closure): pass

class Free(Lion):
    def __init__(self, params, lr, needed): pass
    def train(self): pass
    def eval(self): pass

def no_rate(params): pass
def half(step, steps): return 0.5
def late(step, steps): return 1 - step
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_training.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def make(optimizers: str, fixed: str = "", more: str = "") -> Any:
        text = (
            f"sweep: s\ncompare:\n  optimizer: {optimizers}\n"
            f"fixed: {{arch: cnn3, dataset: digits, image_size: 32, lr: 0.1, epochs: 2{fixed}}}\n"
            f"{more}"
        )
        return expand_sweep(parse_sweep(text, "a.yaml"), lambda name, size: FACTS)

    return make


def test_the_signature_says_which_keys_and_options_a_config_has(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[tuple[str, ...]]] = []
    ask = own_code._ask

    def noted(requests: list[dict[str, Any]]) -> Any:
        keys = ("check", "optimizer", "schedule")
        asked.append([tuple(filter(None, map(request.get, keys))) for request in requests])
        return ask(requests)

    monkeypatch.setattr(own_code, "_ask", noted)
    made = plan(
        "[sgd, 'own_training:Lion']",
        ", momentum: 0.8, decay_norm_bias: false, schedule: 'own_training:half'",
        "rules:\n  - {when: {optimizer: 'own_training:Lion'}, "
        "set: {optimizer_options: {sharp: 1, on: true}, weight_decay: 0.0}}\n",
    )
    assert asked == [[("signature", "own_training:Lion"), ("schedule", "own_training:half")]]
    assert "own_training" not in sys.modules
    config = made.trials[1].config
    assert (config.momentum, config.nesterov, config.betas) == (None, None, (0.9, 0.99))
    assert config.weight_decay == 0.0
    assert config.decay_norm_bias is None  # nothing decays
    assert config.optimizer_options == {"on": True}
    assert config.schedule.function == "own_training:half"
    default = plan("['own_training:Lion']", ", decay_norm_bias: false").trials[0].config
    assert (default.weight_decay, default.decay_norm_bias) == (0.1, False)


@pytest.mark.slow
def test_what_an_own_optimizer_or_schedule_cannot_do_is_refused_in_one_go(plan: Any) -> None:
    names = ["Closure", "Free", "no_rate", "absent", "Lion"]
    with pytest.raises(SweepError) as caught:
        plan(
            str([f"own_training:{name}" for name in names]),
            ", optimizer_options: {shrp: 2}",
            "rules:\n  - when: {optimizer: 'own_training:Free'}\n"
            "    set: {optimizer_options: null}\n",
        )
    problems = "\n".join(caught.value.problems)
    for text in (
        "a.yaml:3: compare.optimizer: own_training:Closure: its step needs a closure",
        "a.yaml:3: compare.optimizer: own_training:Free also needs needed: give it under",
        "a.yaml:3: compare.optimizer: own_training:no_rate: it is called with the weights and lr",
        "a.yaml:3: compare.optimizer: own_training:absent: module own_training has no function",
        "own_training:Lion has no option 'shrp' (closest: sharp); its options: on, sharp",
    ):
        assert text in problems, problems
    with pytest.raises(SweepError, match="ema: own_training:Free averages the weights itself"):
        plan("['own_training:Free']", ", ema: 0.9, optimizer_options: {needed: 1}")
    with pytest.raises(SweepError, match=r"a\.yaml:4: fixed\.schedule: own_training:late\(2, 2\)"):
        plan("[sgd]", ", schedule: 'own_training:late'")
