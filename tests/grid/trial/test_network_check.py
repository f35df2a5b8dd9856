"""Networks of the user's own: tried before a run, and what they raise in one."""

import sys
from pathlib import Path
from typing import Any

import pytest

from grid import load_sweep, make_plan
from grid.api import use_own_modules
from grid.code import asked
from grid.code.sweep_code import SweepCode
from grid.errors import SweepError
from grid.trial.network_check import try_networks, unfinished_configs
from tests.small_sweeps import run_local, trial_rows

NETWORKS = """
import os, sys, time
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs, form=lambda y: y):
        super().__init__()
        self.dense, self.form = nn.Linear(192, outputs), form
    def forward(self, x):
        return self.form(self.dense(x.flatten(1)))

class Output:
    def __init__(self, logits): self.logits = logits

class Surprise(Exception):
    def __str__(self): raise RuntimeError

def thousand(classes): return Net(1000)
def image(classes): return Net(classes, lambda y: y[:, :, None, None])
def squeezed(classes): return Net(classes, lambda y: y.squeeze())
def frozen(classes): return Net(classes).requires_grad_(False)
def exits(classes): os._exit(0)
def hangs(classes): time.sleep(1000)
def typo(classes): return Net(clases)
def needs(classes, width): return Net(classes)
def pair(classes): return Net(classes, lambda y: (y, 0))
def dictionary(classes): return Net(classes, lambda y: {"logits": y})
def output(classes): return Net(classes, Output)
def timm_like(pretrained=False, **kwargs): return inner(**kwargs)
def inner(num_classes=1000): return Net(num_classes)
def lazy(num_classes): return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
def good(classes): return Net(classes)

def late(raises):
    def form(y):
        if y.requires_grad and not y.is_meta and len(y) > 2: raises()
        return y
    return lambda classes: Net(classes, form)

def throw(error): raise error
quits = late(lambda: sys.exit(0))
leaves = late(lambda: os._exit(0))
keyboard = late(lambda: throw(KeyboardInterrupt()))
generator = late(lambda: throw(GeneratorExit()))
silent = late(lambda: throw(Surprise()))
name = late(lambda: throw(FileNotFoundError("no file caf\\udce9.npy")))
"""
FIXED = {"image_size": 8, "epochs": 1, "limit_train": 64, "limit_test": 20, "augment": []}


@pytest.fixture
def sweep(write_sweep, tmp_path, monkeypatch):
    (tmp_path / "own_tried.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(*names: str, **keys: Any) -> Path:
        archs = [f"own_tried:{name}" for name in names]
        return write_sweep(compare={"arch": archs}, fixed={**FIXED, "lr": 0.01, **keys}, seeds=[0])

    return write


def tried(sweep: Path, data_dir: Path):
    use_own_modules()
    plan = make_plan(load_sweep(sweep), data_dir=data_dir)
    return try_networks(plan, unfinished_configs(plan, ()), "cpu")


def test_what_cannot_be_trained_is_found_with_its_line_before_the_run(sweep, data_dir):
    expected = {
        "thousand": "(batch, classes), here (2, 10), but got the shape (2, 1000) (own_tried.py:18)",
        "image": "(2, 10, 1, 1)",
        "squeezed": "here (1, 10), but got the shape (10,)",
        "frozen": "no weight gets a gradient",
        "exits": "ended the process with exit code 0",
        "typo": "NameError: name 'clases' is not defined (own_tried.py:24)",
        "needs": "also needs width: give it under arch_options",
    }
    messages = tried(sweep(*expected, "good"), data_dir).messages()
    assert [m.partition(":")[2].partition(":")[0] for m in messages] == list(expected)
    for message, part in zip(messages, expected.values(), strict=True):
        assert part in message
    assert "own_tried" not in sys.modules  # the user's code ran in another process


@pytest.mark.soak
def test_a_network_that_hangs_is_said_to(sweep, data_dir, monkeypatch):
    monkeypatch.setattr(asked, "HANG_S", 15.0)
    (message,) = tried(sweep("hangs", "good"), data_dir).messages()
    assert "own_tried:hangs: gave no answer to two images" in message


def test_usual_forms_of_networks_train_and_are_not_tried_again(sweep, data_dir, monkeypatch):
    path = sweep("pair", "dictionary", "output", "timm_like", "lazy")
    found = tried(path, data_dir)
    assert found.messages() == []
    assert [line.split(": ")[0] for line in found.remarks()] == [
        f"own_tried:{name}" for name in ("pair", "dictionary", "output")
    ]
    monkeypatch.setattr(asked, "_ask", None)
    assert tried(path, data_dir).remarks() == found.remarks()
    summary = run_local(path, Path("results"), data_dir)
    assert summary.states == {"complete": 5}


def test_whatever_a_trial_raises_is_that_trials(sweep, data_dir):
    expected = {
        "quits": "SystemExit: 0",
        "leaves": "SystemExit: os._exit(0)",
        "keyboard": "KeyboardInterrupt",
        "generator": "GeneratorExit",
        "silent": "Surprise: (its message cannot be shown)",
        "name": "FileNotFoundError: no file caf\\udce9.npy",
        "thousand": "must return logits",
    }
    summary = run_local(sweep(*expected, "good"), Path("results"), data_dir)
    assert (summary.states, summary.exit_code) == ({"complete": 1, "failed": 7}, 1)
    reasons = {row.arch.partition(":")[2]: row.reason for row in trial_rows(Path(summary.folder))}
    assert all(part in reasons[name] for name, part in expected.items())


def test_an_optimizer_of_ones_own_is_tried_with_its_line_of_the_sweep(
    write_sweep, tmp_path, data_dir, monkeypatch
):
    (tmp_path / "own_steps.py").write_text(
        "import torch\n"
        "class Still(torch.optim.SGD):\n"
        "    def step(self, closure=None): pass\n"
        "class Odd(torch.optim.SGD):\n"
        "    def __init__(self, params, lr, power=1):\n"
        "        super().__init__(params, lr=lr ** (1 // power))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = write_sweep(
        compare={
            "optimizer": ["own_steps:Still", "own_steps:Odd", "sgd"],
            "optimizer_options": [None, {"power": 0}],
        },
        exclude=[{"optimizer": ["sgd", "own_steps:Still"], "optimizer_options": [{"power": 0}]}],
        fixed={**FIXED, "arch": "mobilenet_small", "lr": 0.01, "optimizer": None},
        seeds=[0],
    )
    found = tried(path, data_dir)
    assert found.placed_messages() == [
        ("optimizer", "own_steps:Still: its steps change no weight"),
        (
            "optimizer",
            "own_steps:Odd: ZeroDivisionError: integer division or modulo by zero "
            "(own_steps.py:6) (1 of its 2 variants)",
        ),
    ]
    assert "own_steps" not in sys.modules
    monkeypatch.setattr(asked, "_ask", lambda requests: ([None] * len(requests), ""))
    plan = make_plan(load_sweep(path), data_dir=data_dir)
    problems = [found.problem(trial.config) for trial in plan.trials]
    assert [problem is None for problem in problems] == [False, True, False, True]


def test_a_second_plan_of_ones_own_parts_starts_no_process(
    write_sweep, tmp_path, data_dir, monkeypatch
):
    module = tmp_path / "own_parts.py"
    module.write_text(
        "import torch\n"
        "class Steps(torch.optim.SGD): pass\n"
        "class Dark:\n"
        "    def __init__(self, by=2): self.by = by\n"
        "    def __call__(self, image): return image // self.by\n"
        "def half(step, steps): return 0.5\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    augment = [["own_parts:Dark"], [{"own_parts:Dark": {"by": 3}}]]
    parts = {"optimizer": "own_parts:Steps", "schedule": "own_parts:half", "lr": 0.01}
    path = write_sweep(
        compare={"augment": augment},
        fixed={**FIXED, "arch": "mobilenet_small", **parts},
        seeds=[0],
    )
    started: list[list[str]] = []
    ask = asked._ask

    def counted(requests):
        started.append([request["check"] for request in requests])
        return ask(requests)

    monkeypatch.setattr(asked, "_ask", counted)
    assert tried(path, data_dir).messages() == []
    assert started == [["signature", "schedule"], ["transform"] * 2, ["optimizer"]]
    assert tried(path, data_dir).messages() == []
    assert len(started) == 3
    module.write_text(module.read_text().replace("image // self.by", "image / self.by"))
    use_own_modules()
    with pytest.raises(SweepError, match=r"compare\.augment: own_parts:Dark: must return a uint8"):
        tried(path, data_dir)
    # What has another problem is said at once, so the optimizer is tried too.
    assert started[3:] == [["signature", "schedule"], ["transform"] * 2, ["optimizer"]]


def test_a_gpu_in_deterministic_mode_is_a_question_of_its_own(sweep, data_dir, monkeypatch):
    questions: list[dict[str, Any]] = []

    def answers(self, requests):
        questions.extend(requests)
        return [{"problem": None, "notes": []} for _ in requests]

    monkeypatch.setattr(SweepCode, "answers", answers)
    for deterministic in (True, False):
        path = sweep("good", deterministic=deterministic)
        plan = make_plan(load_sweep(path), data_dir=data_dir)
        for device in ("cpu", "cuda"):
            try_networks(plan, unfinished_configs(plan, ()), device)
    asked_for = [question.get("deterministic", False) for question in questions]
    assert asked_for == [False, True, False, False]
