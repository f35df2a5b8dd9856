import random

import numpy as np

from grid.spec import Asha
from grid.stopping import CellAsha, rung_epochs


def test_rungs_are_powers_below_the_budget() -> None:
    assert rung_epochs(Asha(grace_epochs=1, reduction=3), 27) == (1, 3, 9)
    assert rung_epochs(Asha(grace_epochs=1, reduction=3), 28) == (1, 3, 9, 27)
    assert rung_epochs(Asha(grace_epochs=4, reduction=2), 30) == (4, 8, 16)
    assert rung_epochs(Asha(grace_epochs=5, reduction=2), 5) == ()


def test_decisions_equal_the_definition() -> None:
    asha = CellAsha(Asha(grace_epochs=2, reduction=3))
    draw = random.Random(0)
    values: list[float] = []
    for number in range(40):
        value = draw.random()
        values.append(value)
        assert asha.decide(f"t{number}", 1, value, 9) is None  # not a rung
        stopped = asha.decide(f"t{number}", 2, value, 9) is not None
        assert stopped == (value < np.quantile(values, 2 / 3))


def test_the_first_trial_and_equal_trials_go_on() -> None:
    asha = CellAsha(Asha())
    assert asha.decide("a", 1, 0.1, 9) is None
    assert asha.decide("b", 1, 0.1, 9) is None
    assert asha.decide("c", 1, 0.05, 9) is not None


def test_a_trial_at_its_budget_is_never_pruned() -> None:
    asha = CellAsha(Asha(grace_epochs=3))
    for number in range(9):
        asha.record(f"t{number}", 3, 0.9)
    assert asha.decide("last", 3, 0.1, epochs=3) is None
    assert asha.decide("more", 3, 0.1, epochs=4) is not None


def test_a_rebuilt_stopper_decides_alike_in_any_order() -> None:
    draw = random.Random(1)
    seen = [(f"t{n}", epoch, draw.random()) for n in range(20) for epoch in (1, 3)]
    one, other = CellAsha(Asha()), CellAsha(Asha())
    for case in seen:
        one.record(*case)
    for case in reversed(seen):
        other.record(*case)
    other.record(*seen[0])  # a resumed trial reports its rung again
    for value in np.linspace(0, 1, 50):
        assert (one.decide("x", 3, value, 9) is None) == (other.decide("x", 3, value, 9) is None)
