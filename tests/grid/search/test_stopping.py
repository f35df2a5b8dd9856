"""Early stopping inside a cell: every rule against its definition, in any order of events."""

import math
import random
from collections import Counter
from typing import get_args

import pytest

from benchmarks.search.bench_replay import METHODS
from benchmarks.search.fairness import FAST, SLOW, made_up_curves
from benchmarks.search.simulate import Simulated, simulate
from grid.cost.disk import most_waiting
from grid.errors import SweepError
from grid.plan.ids import Trial
from grid.plan.plan import Plan
from grid.search.rungs import rung_epochs
from grid.search.stopping import CELL_RULES, CellProgress, cell_rule
from grid.sweep.spec import Asha, FirstEpochs, Halving, Hyperband, Median, Stop
from tests.small_plans import tuned

RULES = {
    "asha": "{asha: {grace_epochs: 1, reduction: 3}}",
    "halving": "{halving: {grace_epochs: 1, reduction: 3}}",
    "hyperband": "{hyperband: {grace_epochs: 1, reduction: 3}}",
    "median": "{median: {grace_epochs: 1, min_configs: 3}}",
    "first_epochs": "{first_epochs: {epochs: 2, keep: 3}}",
}
FAR_BEHIND = "{halving: {grace_epochs: 1, reduction: 3, rungs: 2, gap: 0.05}}"
ONE_AXIS = "{lr: {uniform: [0.0001, 1]}}"


def raced(rule: str, trials: int = 27, epochs: int = 27, **more: str) -> Plan:
    return tuned(
        trials, "random", axes=ONE_AXIS, stop=f"stop: {RULES[rule]}\n", epochs=epochs, **more
    )


def steady(trial: Trial, epoch: int) -> float:
    """Curves that never cross: the larger the learning rate the better."""
    return trial.config.lr * (1 - math.exp(-epoch / 5))


def best_rate(simulated: Simulated, plan: Plan) -> dict[str, bool]:
    """Return for each cell if its winner has the largest of the suggested rates."""
    largest_wins = {}
    for cell in plan.cells:
        rates = [t.config.lr for t in simulated.trials.values() if t.cell_id == cell.cell_id]
        winner = simulated.winner(cell.cell_id)
        largest_wins[cell.cell_id] = winner is not None and winner.config.lr == max(rates)
    return largest_wins


def test_every_rule_of_the_sweep_file_has_a_class() -> None:
    sections = [get_args(field.annotation)[0] for field in Stop.model_fields.values()]
    assert sections == list(CELL_RULES)
    assert all(field.default is None for field in Stop.model_fields.values())


def test_rungs_are_powers_below_the_budget() -> None:
    assert rung_epochs(1, 3, 27) == (1, 3, 9)
    assert rung_epochs(1, 3, 28) == (1, 3, 9, 27)
    assert rung_epochs(4, 2, 30) == (4, 8, 16)
    assert rung_epochs(5, 2, 5) == ()


@pytest.mark.parametrize("slots", [1, 4, 200])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_the_best_of_curves_that_do_not_cross_and_leaves_no_trial_open(
    rule: str, slots: int
) -> None:
    plan = raced(rule)
    simulated = simulate(plan, steady, slots)
    assert len(simulated.trials) == plan.planned == len(simulated.outcomes) == 54
    assert {o.state for o in simulated.outcomes.values()} == {"complete", "pruned"}
    assert all(best_rate(simulated, plan).values())
    assert simulated.total_epochs < 54 * 27 * {"median": 0.8}.get(rule, 0.6)


@pytest.mark.parametrize("slots", [1, 5, 54])
@pytest.mark.parametrize(
    ("rungs", "expected"), [("", [27, 9, 3, 1]), (", rungs: 2", [27, 9, 3, 3])]
)
def test_synchronous_halving_trains_exactly_the_best_of_each_rung(
    slots: int, rungs: str, expected: list[int]
) -> None:
    stop = f"stop: {{halving: {{grace_epochs: 1, reduction: 3{rungs}}}}}\n"
    plan = tuned(27, "random", axes=ONE_AXIS, stop=stop, epochs=27)
    simulated = simulate(plan, steady, slots)
    for cell in plan.cells:
        of_cell = [t for t in simulated.trials.values() if t.cell_id == cell.cell_id]
        of_cell.sort(key=lambda t: -t.config.lr)
        ends = [simulated.epochs[t.trial_id] for t in of_cell]
        assert ends == sorted(ends, reverse=True)  # the better, the further
        assert [sum(end >= rung for end in ends) for rung in (1, 3, 9, 27)] == expected


def test_survivors_of_halving_that_fall_far_behind_wait() -> None:
    stop = Stop(halving=Halving(grace_epochs=1, reduction=2, rungs=2, gap=0.05))
    rule = cell_rule(stop, 9, 1)
    assert rule.pause_epochs(0, 9) == (1, 2, 4, 6, 8)
    curves = {0: [0.1, 0.2, 0.3, 0.4, 0.4, 0.5], 1: [0.1, 0.2, 0.3, 0.36, 0.1, 0.2]}
    for number, curve in curves.items():
        for epoch, value in enumerate(curve, 1):
            verdict = rule.judge(number, epoch, value, 9)
            waits = epoch in (1, 2) or (number, epoch) == (1, 6)
            assert verdict.action == ("wait" if waits else "go"), (number, epoch)
            if waits:
                alone = CellProgress({number: ""}, (), all_asked=True, complete=0)
                assert rule.promote(alone) == number
    text = "val_top1 0.3600 after epoch 6, more than 0.05 below 0.5000, the cell's best there"
    assert text in verdict.reason
    # It was promoted because no other config became complete, and stays promoted.
    assert rule.judge(1, 7, 0.3, 9).action == "go"
    assert rule.judge(1, 8, 0.3, 9).action == "go"  # no other config reached that epoch


def test_only_those_far_behind_as_many_as_are_wanted_wait() -> None:
    stop = Stop(halving=Halving(grace_epochs=1, reduction=2, rungs=1, gap=0.05))
    rule = cell_rule(stop, 9, 2)
    for number, value in enumerate((0.9, 0.5, 0.46, 0.4)):
        rule.note(number, 1, 0.1)
        assert rule.judge(number, 2, value, 9).action == ("wait" if number == 3 else "go")


@pytest.mark.parametrize("slots", [1, 54])
def test_halving_trains_a_third_of_the_configs_three_times_as_long(slots: int) -> None:
    plan = raced("asha")
    simulated = simulate(plan, steady, slots)
    for cell in plan.cells:
        ends = [
            simulated.epochs[t]
            for t, trial in simulated.trials.items()
            if trial.cell_id == cell.cell_id
        ]
        assert max(ends) == 27
        # Some continue before all have arrived; never fewer than in the synchronous definition.
        for rung, at_least in ((27, 1), (9, 3), (3, 9), (1, 27)):
            assert at_least <= sum(end >= rung for end in ends) <= 2 * at_least


@pytest.mark.parametrize("slots", [1, 8])
@pytest.mark.parametrize("rule", RULES)
def test_about_as_many_configs_wait_as_the_plan_says(rule: str, slots: int) -> None:
    plan = raced(rule)
    planned = sum(most_waiting(plan, cell) for cell in plan.cells)
    observed = simulate(plan, steady, slots).most_waiting
    assert planned * 0.8 <= observed <= planned + slots  # a promoted trial waits for a moment


def test_a_waiting_config_goes_on_once_it_is_among_the_best() -> None:
    rule = cell_rule(Stop(asha=Asha(grace_epochs=1, reduction=3)), 9, 1)
    assert rule.judge(0, 1, 0.5, 9).action == "wait"  # the best third of one is none
    assert rule.judge(1, 1, 0.4, 9).action == "wait"
    waiting = CellProgress(waiting={0: "", 1: ""}, running=(), all_asked=False, complete=0)
    assert rule.promote(waiting) is None
    assert rule.judge(2, 1, 0.3, 9).action == "wait"
    assert rule.promote(waiting) == 0
    assert rule.judge(3, 1, 0.9, 9).action == "go"


def test_a_config_that_went_on_before_a_cut_goes_on_again() -> None:
    rule = cell_rule(Stop(asha=Asha()), 9, 1)
    rule.note(0, 1, 0.1)
    rule.note(0, 2, 0.1)
    for number in range(1, 9):
        rule.note(number, 1, 0.9)
    assert rule.judge(0, 1, 0.1, 9).action == "go"
    assert rule.judge(9, 1, 0.1, 9).action == "wait"


def test_hyperbands_brackets_share_the_configs_as_in_the_paper() -> None:
    # R = 27, eta = 3: brackets of 27, 12, 6 and 4 configs that start at 1, 3, 9 and 27 epochs.
    rule = cell_rule(Stop(hyperband=Hyperband()), 27, 1)
    firsts = [(rule.pause_epochs(n, 27) or (27,))[0] for n in range(49)]
    assert [firsts.count(start) for start in (1, 3, 9, 27)] == [27, 12, 6, 4]
    assert set(firsts[:9]) == {1, 3, 9, 27}  # side by side, not one after the other


def test_the_median_rule_by_hand() -> None:
    rule = cell_rule(Stop(median=Median(grace_epochs=2, min_configs=2)), 9, 1)
    for number, curve in enumerate([(0.2, 0.4), (0.6, 0.8)]):
        for epoch, value in enumerate(curve, 1):
            assert rule.judge(number, epoch, value, 9).action == "go"
    # The means up to epoch 2 are 0.3 and 0.7: their median is 0.5.
    assert rule.judge(2, 1, 0.0, 9).action == "go"
    verdict = rule.judge(2, 2, 0.49, 9)
    assert (verdict.action, "0.4900 by epoch 2, below 0.5000" in verdict.reason) == ("end", True)
    assert rule.judge(3, 1, 0.5, 9).action == "go"
    assert rule.judge(3, 2, 0.1, 9).action == "go"  # its best value counts


@pytest.mark.parametrize("slots", [1, 7, 100])
def test_first_epochs_trains_all_and_then_the_best(slots: int) -> None:
    plan = raced("first_epochs", trials=10, epochs=8)
    simulated = simulate(plan, steady, slots)
    for cell in plan.cells:
        of_cell = [t for t in simulated.trials.values() if t.cell_id == cell.cell_id]
        of_cell.sort(key=lambda t: -t.config.lr)
        assert [simulated.epochs[t.trial_id] for t in of_cell] == [8] * 3 + [2] * 7


def test_first_epochs_replaces_a_chosen_config_that_diverges() -> None:
    plan = raced("first_epochs", trials=6, epochs=5)
    top = sorted(simulate(plan, steady).trials.values(), key=lambda t: -t.config.lr)[0]

    def curve(trial: Trial, epoch: int) -> float | str:
        return "diverged" if trial.trial_id == top.trial_id and epoch == 4 else steady(trial, epoch)

    simulated = simulate(plan, curve)
    states = [simulated.outcomes[t].state for t, trial in simulated.trials.items()
              if trial.cell_id == top.cell_id]  # fmt: skip
    assert sorted(states) == ["complete"] * 3 + ["diverged"] + ["pruned"] * 2


@pytest.mark.parametrize("rule", RULES)
def test_a_slow_cell_loses_nothing_to_a_fast_one(rule: str) -> None:
    # One cell's curves lie far above the other's until late; each cell is judged for itself.
    plan = raced(rule)

    def curve(trial: Trial, epoch: int) -> float:
        slow = trial.config.optimizer == "sgd"
        return steady(trial, epoch) * (0.01 if slow and epoch < 20 else 1.0)

    alone, beside = simulate(plan, steady), simulate(plan, curve)
    for cell in plan.cells:
        ran = [
            sorted(
                n
                for t, n in simulated.epochs.items()
                if simulated.trials[t].cell_id == cell.cell_id
            )
            for simulated in (alone, beside)
        ]
        assert ran[0] == ran[1]


@pytest.mark.ray
def test_asha_over_all_cells_drops_the_cell_that_ends_best_and_ours_does_not() -> None:
    curves = made_up_curves()
    best = {cell: max(own, key=lambda config: own[config].final) for cell, own in
            curves.cells.items()}  # fmt: skip
    finals = {cell: curves.cells[cell][config].final for cell, config in best.items()}
    assert finals[SLOW] > finals[FAST] + 0.1
    dropped = 0
    for seed in range(10):
        ray_asha, cell_asha = (
            METHODS[name](curves, 8, seed)
            for name in ("Ray's ASHA over all cells", "ours: asha 3, random")
        )
        for cell in (FAST, SLOW):
            assert cell_asha.epochs_of[cell, best[cell]] == 27
        # Ray's ASHA mostly trains none of that cell to its end; the first to arrive may pass.
        dropped += max(n for (cell, _), n in ray_asha.epochs_of.items() if cell == SLOW) < 27
    assert dropped >= 5


@pytest.mark.parametrize("rule", [*RULES.values(), FAR_BEHIND], ids=[*RULES, "halving, gap"])
@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_failures_and_divergence_in_any_order_leave_no_trial_open(rule: str, sampler: str) -> None:
    for draw in range(3):
        plan = tuned(12, sampler, axes=ONE_AXIS, stop=f"stop: {rule}\n", epochs=9,
                     seeds="[0, 1]", more=", confirm: {top: 2, seeds: 2}")  # fmt: skip
        chance = random.Random(draw)

        def curve(trial: Trial, epoch: int, chance: random.Random = chance) -> float | str:
            if chance.random() < 0.05:
                return chance.choice(["failed", "diverged"])
            return chance.random()

        simulated = simulate(plan, curve, slots=chance.choice([1, 3, 50]))
        assert set(simulated.trials) == set(simulated.outcomes)
        for cell in plan.cells:
            of_cell = [t for t in simulated.trials.values() if t.cell_id == cell.cell_id]
            searched = [t for t in of_cell if t.role == "searched"]
            assert len(searched) == 24
            complete = Counter(
                t.config_id for t in searched if simulated.outcomes[t.trial_id].state == "complete"
            )
            whole = sum(seeds == 2 for seeds in complete.values())
            assert len(of_cell) - len(searched) == 2 * min(whole, 2)


def test_stops_that_compare_nothing_are_refused() -> None:
    for stop, key in (
        ("{asha: {grace_epochs: 4}}", "grace_epochs"),
        ("{halving: {grace_epochs: 5}}", "grace_epochs"),
        ("{hyperband: {grace_epochs: 9}}", "grace_epochs"),
        ("{median: {grace_epochs: 4}}", "grace_epochs"),
        ("{first_epochs: {epochs: 5}}", "epochs"),
    ):
        with pytest.raises(
            SweepError, match=rf"stop\.\w+\.{key}: must be below a trial's epochs \(4\)"
        ):
            tuned(4, stop=f"stop: {stop}\n")


@pytest.mark.parametrize(
    "stop",
    [
        Stop(asha=Asha()),
        Stop(halving=Halving()),
        Stop(hyperband=Hyperband()),
        Stop(median=Median(min_configs=1)),
        Stop(first_epochs=FirstEpochs()),
    ],
    ids=lambda stop: stop.name,
)
def test_a_trial_at_its_budget_is_never_stopped(stop: Stop) -> None:
    rule = cell_rule(stop, 3, 1)
    for number in range(9):
        rule.note(number, 3, 0.9)
    assert rule.judge(9, 3, 0.1, 3).action == "go"
