"""Metrics of the user's own: they change nothing, and a failure costs nothing but the value."""

import math
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from cnncore.config import Objective
from cnncore.measure.metrics import classification_metrics
from cnncore.measure.own_metrics import (
    Measures,
    check_metric_function,
    objective_value,
    open_measures,
)

CODE = """
import os, random, torch, numpy

def hostile(logits, labels):
    torch.manual_seed(7), random.seed(7), numpy.random.seed(7)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    os.environ["HOSTILE"] = "1"
    logits.zero_(), labels.zero_()
    return torch.tensor(2)

def numpys(logits, labels):
    return numpy.float32(0.5)

def fails(logits, labels):
    raise KeyError("no such class")

def exits(logits, labels):
    raise SystemExit(3)

def one_argument(logits):
    return 1.0

def listed(logits, labels):
    return [1.0]

def infinite(logits, labels):
    return float("inf")

calls = []
def counts(logits, labels):
    calls.append(1)
    return len(calls)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "measure_mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "measure_mine", raising=False)


def predictions(images: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images, 4, generator=generator), torch.arange(images) % 3


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    logits, labels = predictions()  # no image of class 3, which is predicted
    expected = balanced_accuracy_score(labels[:30], logits[:30].argmax(1))
    assert classification_metrics(logits[:30], labels[:30]).balanced_top1 == pytest.approx(expected)


def test_a_metric_changes_neither_predictions_nor_process(mine: None) -> None:
    logits, labels = predictions()
    before = logits.clone(), labels.clone()
    states = torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())
    measured = Measures(["measure_mine:hostile"])(logits, labels)
    assert measured["measure_mine:hostile"].value == 2.0
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert pickle.dumps(np.random.get_state()) == states[2]
    assert torch.get_default_dtype() is torch.float32
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_metric_that_fails_has_no_value_but_a_reason(mine: None) -> None:
    names = [f"measure_mine:{name}" for name in ("fails", "exits", "listed", "absent", "numpys")]
    measured = Measures([*names, "macro_auc"])(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
    fails, exits, listed, absent, numpys, auc = measured.values()
    assert all(math.isnan(one.value) for one in (fails, exits, listed, absent, auc))
    assert fails.reason == "KeyError: 'no such class' (measure_mine.py:16)"
    assert exits.reason == "SystemExit: 3 (measure_mine.py:19)"
    assert "must return one number, got list" in str(listed.reason)
    assert "has no function absent" in str(absent.reason)
    assert auc.reason == "not defined for these predictions"
    assert (numpys.value, numpys.reason) == (0.5, None)


def test_an_objective_that_cannot_be_imported_is_an_error(mine: None) -> None:
    with pytest.raises(ValueError, match="has no function absent"):
        open_measures((), "measure_mine:absent")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("hostile", None),
        ("fails", "KeyError: 'no such class' (measure_mine.py:16)"),
        (
            "one_argument",
            "TypeError: one_argument() takes 1 positional argument but 2 were given; it is called "
            "as function(logits, labels) (measure_mine.py:21)",
        ),
        ("listed", "must return one number, got list (measure_mine.py:24)"),
        ("infinite", "must return a finite number, got inf (measure_mine.py:27)"),
        (
            "counts",
            "returns 1.0 and then 2.0 for the same predictions: it must not draw at random or "
            "remember (measure_mine.py:31)",
        ),
        ("absent", "module measure_mine has no function absent"),
    ],
)
def test_the_plan_finds_what_is_wrong_with_a_metric(
    mine: None, name: str, problem: str | None
) -> None:
    assert check_metric_function(f"measure_mine:{name}", 4)["problem"] == problem


def test_accuracy_and_macro_f1_choose_different_predictions_of_unbalanced_data() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    frequent = torch.tensor([[1.0, 0.0]]).repeat(100, 1)  # class 0 for every image
    careful = torch.nn.functional.one_hot(labels.clone(), 2).float()
    careful[:15] = torch.tensor([0.0, 1.0])  # finds the rare class, with false alarms
    scores: dict[str, list[float]] = {}
    for name in (None, "val_macro_f1", "val_balanced_top1", "val_loss"):
        measures, objective = open_measures((), name), Objective.of(name)
        for logits in (frequent, careful):
            metrics = classification_metrics(logits, labels)
            value = objective_value(name, metrics.loss, measures(logits, labels))
            scores.setdefault(objective.name, []).append(objective.score(metrics.top1, value))
    better = {name: "careful" if b > a else "frequent" for name, (a, b) in scores.items()}
    assert better == {
        "val_top1": "frequent",
        "val_macro_f1": "careful",
        "val_balanced_top1": "careful",
        "val_loss": "frequent",
    }
