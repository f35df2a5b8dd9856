"""Learning rates against PyTorch's own and against hand computations."""

import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.optim import lr_scheduler

from cnncore.config import TrialConfig
from cnncore.training.schedule import learning_rate
from grid.code.asked import ask

STEPS = 7


def config(**keys: Any) -> TrialConfig:
    keys = {"optimizer": "sgd", "epochs": 10, **keys}
    return TrialConfig(arch="cnn3", dataset="digits", lr=0.5, **keys)


def rates(config):
    return [learning_rate(config, step, STEPS) for step in range(1, config.epochs * STEPS + 1)]


def reference(make, every):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler, out = make(optimizer), []
    for step in range(1, 10 * STEPS + 1):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0:
            scheduler.step()
    return out


def test_schedules_equal_torchs():
    cosine = reference(lambda o: lr_scheduler.CosineAnnealingLR(o, 10 * STEPS, 0.05), every=1)
    assert rates(config(schedule={"cosine": {"final": 0.1}})) == pytest.approx(cosine)
    step = reference(lambda o: lr_scheduler.StepLR(o, 3, 0.2), every=STEPS)
    assert rates(config(schedule={"step": {"every": 3, "factor": 0.2}})) == pytest.approx(step)
    assert rates(config()) == [0.5] * 70


def test_warm_restarts_equal_torchs_and_fall_where_mcdonnells_do():
    sgdr = reference(
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2 * STEPS, 2, 0.05), every=1
    )
    lrs = rates(config(schedule={"restarts": {"first": 2, "factor": 2, "final": 0.1}}))
    assert lrs == pytest.approx(sgdr)

    doubling = config(schedule={"restarts": {"first": 1, "factor": 2}}, epochs=254)
    peaks = [i // STEPS for i, rate in enumerate(rates(doubling)) if rate == 0.5]
    assert peaks == [0, 1, 3, 7, 15, 31, 63, 127]
    warm = rates(config(schedule={"restarts": {"first": 3}}, warmup_epochs=1))
    assert [i / STEPS for i, rate in enumerate(warm) if rate == 0.5 and i >= STEPS] == [1, 4, 7]


def test_warmup_rises_to_the_peak_and_the_cosine_follows():
    lrs = rates(config(schedule="cosine", warmup_epochs=2))
    assert lrs[:14] == pytest.approx([0.5 * (i + 1) / 14 for i in range(14)])
    assert lrs[14] == 0.5
    assert lrs[14:] == sorted(lrs[14:], reverse=True)
    assert 0 < lrs[-1] < 0.01


def test_a_plateau_multiplies_by_its_factor_at_each_cut():
    plateau = config(schedule={"plateau": {"factor": 0.5}})
    assert [learning_rate(plateau, 9, STEPS, cuts) for cuts in range(3)] == [0.5, 0.25, 0.125]


def test_no_cut_of_a_plateau_goes_below_its_floor():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    reference = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.01, patience=0, threshold=0, min_lr=1e-5, eps=0
    )
    expected = []
    for _ in range(4):  # the first loss is the best
        reference.step(1.0)
        expected.append(optimizer.param_groups[0]["lr"])
    floor = config(schedule={"plateau": {"factor": 0.01, "min_lr": 1e-5}})
    got = [learning_rate(floor, 9, STEPS, cuts) for cuts in range(4)]
    assert got == pytest.approx(expected)
    assert got == pytest.approx([0.5, 5e-3, 5e-5, 1e-5])


def test_milestones_are_shares_of_the_budget():
    schedule = {"milestones": {"at": [0.5, 0.75], "factor": 0.1}}
    eight = config(epochs=8, schedule=schedule)
    lrs = [learning_rate(eight, step, 2) for step in range(1, 17)]
    assert lrs == pytest.approx([0.5] * 8 + [0.05] * 4 + [0.005] * 4)
    three = config(epochs=3, schedule=schedule)
    assert [learning_rate(three, step, 1) for step in (1, 2, 3)] == pytest.approx([0.5, 0.5, 0.05])


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ({"linear": {"final": 0.2}}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, 70)),
        ("linear", lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 70)),
        ({"polynomial": {"power": 2.5}}, lambda o: lr_scheduler.PolynomialLR(o, 70, 2.5)),
        (
            {"exponential": {"factor": 0.7}},
            lambda o: lr_scheduler.ExponentialLR(o, 0.7 ** (1 / STEPS)),
        ),
        ("one_cycle", lambda o: lr_scheduler.OneCycleLR(o, 0.5, 70, cycle_momentum=False)),
        (
            {
                "one_cycle": {
                    "pct_start": 0.41,
                    "div_factor": 7,
                    "final_div_factor": 11,
                    "anneal": "linear",
                }
            },
            lambda o: lr_scheduler.OneCycleLR(
                o,
                0.5,
                epochs=10,
                steps_per_epoch=STEPS,
                pct_start=0.41,
                div_factor=7,
                final_div_factor=11,
                anneal_strategy="linear",
                cycle_momentum=False,
            ),
        ),
        (
            {"warmup_stable_decay": {"warmup": 0.1, "decay": 0.3, "final": 0.2}},
            lambda o: lr_scheduler.SequentialLR(
                o,
                [
                    lr_scheduler.LinearLR(o, 1 / 7, 1.0, 6),
                    lr_scheduler.ConstantLR(o, 1.0),
                    lr_scheduler.LinearLR(o, 1.0, 0.2, 21),
                ],
                [7, 49],
            ),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_later_schedules_equal_torchs_at_every_step(schedule, make):
    assert rates(config(schedule=schedule)) == pytest.approx(reference(make, every=1), rel=1e-9)


def test_an_exponential_meets_pytorchs_at_every_epoch_and_knows_no_budget():
    lrs = rates(config(schedule={"exponential": {"factor": 0.9}}))
    assert lrs[::STEPS] == pytest.approx([0.5 * 0.9**epoch for epoch in range(10)])
    longer = rates(config(schedule={"exponential": {"factor": 0.9}}, epochs=20))
    assert longer[: len(lrs)] == lrs


def test_schedules_span_the_steps_after_the_warm_up():
    for schedule in ({"linear": {"final": 0.1}}, {"polynomial": {"power": 2}}):
        warm = rates(config(schedule=schedule, warmup_epochs=2))
        assert warm[:14] == pytest.approx([0.5 * (i + 1) / 14 for i in range(14)])
        assert warm[14:] == rates(config(schedule=schedule, epochs=8))


@pytest.mark.parametrize("anneal", ["linear", "cos", "sqrt"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_stable_rate_rises_stays_and_falls(anneal, epochs):
    wsd = {"warmup": 0.25, "decay": 0.5, "final": 0.1, "anneal": anneal}
    lrs = rates(config(schedule={"warmup_stable_decay": wsd}, epochs=epochs))
    top = lrs.index(0.5)
    assert lrs[:top] == sorted(lrs[:top])
    assert lrs[top:] == sorted(lrs[top:], reverse=True)
    assert 0.05 < lrs[-1] < 0.5
    assert min(lrs) > 0


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_one_cycle_is_defined_for_any_number_of_steps(epochs, share):
    cycle = config(schedule={"one_cycle": {"pct_start": share}}, epochs=epochs)
    for steps in (1, 2, 5):
        lrs = [learning_rate(cycle, step, steps) for step in range(1, epochs * steps + 1)]
        assert all(0 < lr <= 0.5 for lr in lrs)


OWN = """
import os
def halves(step, steps): return 0.5 ** (4 * (step - 1) // steps)
def counts(step, steps, calls=[]):
    calls.append(step)
    return len(calls)
def negative(step, steps): return 1 - step / 500
def text(step, steps): return "fast"
def one(step): return 1.0
def fails(step, steps): return 1 / (10 - step)
def leaves(step, steps): os._exit(0)
"""


def test_schedules_of_ones_own_are_tried_at_every_step_before_a_run(tmp_path, monkeypatch):
    (tmp_path / "own_rates.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    expected = {
        "halves": None,
        "counts": "it must depend on its arguments alone",
        "negative": "own_rates:negative(501, 1000) must return a number from 0 on",
        "text": "but returned 'fast'",
        "one": "one() takes 1 positional argument but 2 were given",
        "leaves": "its code ended the process with exit code 0",
        "fails": "ZeroDivisionError: division by zero (own_rates.py:10)",
        "absent": "module own_rates has no function absent",
    }
    answers = ask([{"check": "schedule", "schedule": f"own_rates:{name}"} for name in expected], [])
    for (name, text), answer in zip(expected.items(), answers, strict=True):
        problem = answer["problem"]
        assert (problem is None) == (text is None), (name, problem)
        assert text is None or text in str(problem), problem
    assert "own_rates" not in sys.modules
    own = config(schedule="own_rates:halves", warmup_epochs=2)
    assert rates(own)[14:] == [0.5 * 0.5 ** (4 * i // 56) for i in range(56)]
    sys.modules.pop("own_rates")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"schedule": "one_cycle", "warmup_epochs": 1}, "one_cycle warms up by itself"),
        ({"schedule": "warmup_stable_decay", "warmup_epochs": 1}, "as its warmup says"),
        ({"schedule": "polynomial"}, "power"),
        ({"schedule": {"plateau": {"min_lr": 0.5}}}, r"below lr, from which .* \(0.5\)"),
        ({"schedule": {"warmup_stable_decay": {"warmup": 0.5, "decay": 0.6}}}, "got 0.5 and 0.6"),
        ({"schedule": "rates:"}, "package.module:function"),
    ],
)
def test_impossible_schedules_are_refused(keys, expected):
    with pytest.raises(ValidationError, match=expected):
        config(**keys)
