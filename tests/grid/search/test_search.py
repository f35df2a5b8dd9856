"""The search: the same points after a rebuild, no repeated trial, all cells treated equally."""

import json
import threading
from collections import Counter, deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.search.simulate import simulate
from grid.errors import SweepError
from grid.plan.ids import Trial
from grid.plan.plan import Plan, expand_sweep
from grid.search.outcomes import Outcome, worse
from grid.search.study import CellStudy
from grid.search.sweep_search import Search
from grid.store.folder import Finished, Store, now
from grid.sweep.load import parse_sweep
from tests.small_plans import axes_for, slow, tuned


def outcome(trial: Trial) -> Outcome:
    """A made-up result that depends on the config alone, some pruned and some lost."""
    number = int(trial.trial_id, 16)
    state = ("complete", "complete", "complete", "pruned", "diverged", "failed")[number % 6]
    value = (number % 1000) / 1000 if state in ("complete", "pruned") else None
    return Outcome(state, value, 4 if state == "complete" else 1 + number % 3)


def write(store: Store, trial: Trial, result: Outcome) -> None:
    row = {
        "trial_id": trial.trial_id,
        "config_id": trial.config_id,
        "state": result.state,
        "val_top1": result.score,
        "epochs_run": result.epochs_run,
        "ended_at": now(),
    }
    store.write("trials", trial.trial_id, [row])


def run(plan: Plan, store: Store, stop_after: int | None = None) -> list[str]:
    """Run to the end, or until this many trials were started (the last is interrupted)."""
    search = Search(plan, store, store.finished())
    started: list[str] = []
    while (trial := search.next()) is not None:
        started.append(trial.trial_id)
        if stop_after is not None and len(started) >= stop_after:
            break
        result = outcome(trial)
        write(store, trial, result)
        search.tell(trial, result)
    return started


@pytest.mark.parametrize("sampler", ["tpe", "gp", *slow("random", "cmaes", "qmc")])
@pytest.mark.parametrize("seeds", ["[0]", *slow("[0, 1]")])
def test_a_rebuilt_search_asks_for_the_points_of_an_uninterrupted_one(
    tmp_path: Path, sampler: str, seeds: str
) -> None:
    plan = tuned(sampler=sampler, seeds=seeds, axes=axes_for(sampler))
    whole = run(plan, Store(tmp_path / "whole"))
    cut = Store(tmp_path / "cut")
    started: list[str] = []
    for stop_after in (5, 9, 1, 7, None):
        first = run(plan, cut, stop_after)
        # The interrupted trial comes first again.
        if started:
            assert first[0] == started.pop()
        started += first
    assert started == whole
    assert len(whole) == plan.planned


def test_the_model_differs_from_chance() -> None:
    # Guards the test above: a sampler that ignores its results would pass it too.
    points = {}
    for name, good in (("low", 0.0), ("high", 1.0)):
        search = Search(tuned(trials=40, axes="{lr: {uniform: [0.1, 0.9]}}"), None, {})
        late = []
        while (trial := search.next()) is not None:
            lr = trial.config.lr
            search.tell(trial, Outcome("complete", -abs(lr - (0.1 + 0.8 * good)), 4))
            if trial.suggestion is not None and trial.suggestion >= 20:
                late.append(lr)
        points[name] = sum(late) / len(late)
    assert points["low"] < 0.35
    assert points["high"] > 0.65


def test_every_cell_has_the_same_budget_and_makes_progress_alike(tmp_path: Path) -> None:
    plan = tuned(trials=6, seeds="[0, 1, 2]")
    search = Search(plan, Store(tmp_path), {})
    cells = []
    while (trial := search.next()) is not None:
        cells.append(trial.cell_id)
        search.tell(trial, outcome(trial))
    counts = Counter(cells)
    assert list(counts.values()) == [18, 18]
    assert [len(set(cells[n : n + 6])) for n in range(0, 36, 6)] == [2] * 6


def test_conditional_axes_never_reach_a_trial_they_do_not_apply_to() -> None:
    search = Search(tuned(trials=30, sampler="random"), None, {})
    kinds = set()
    while (trial := search.next()) is not None:
        config = trial.config
        assert (config.momentum is not None) == (config.optimizer == "sgd")
        assert (config.warmup_epochs is not None) == (config.schedule.kind == "cosine")
        kinds.add((config.optimizer, config.schedule.kind))
    assert len(kinds) == 6


@pytest.mark.parametrize("sampler", ["tpe", "random", *slow("qmc", "gp")])
def test_a_config_is_asked_once_and_another_point_takes_its_place(
    tmp_path: Path, sampler: str
) -> None:
    axes = "{lr: {choice: [0.1, 0.2, 0.3]}, batch_size: {int_range: [8, 11]}}"
    plan = tuned(trials=20, sampler=sampler, axes=axes)
    assert plan.planned == 2 * 12  # the points there are
    assert "has only 12 different points" in plan.warnings[-1]
    started = run(plan, Store(tmp_path))
    assert len(started) == len(set(started)) == 24
    # After an interruption, the skipped draws are skipped again.
    cut = Store(tmp_path / "cut")
    first = run(plan, cut, stop_after=17)
    assert first[:-1] + run(plan, cut) == started


def test_values_that_make_the_same_config_are_refused() -> None:
    axes = "{lr: [0.1], schedule: [{step: {every: 2}}, {step: {every: 2, factor: 0.1}}, cosine]}"
    with pytest.raises(SweepError, match=r"tune\.axes\.schedule: has a value twice"):
        tuned(trials=4, axes=axes)


def test_trials_in_flight_are_not_handed_out_twice() -> None:
    search = Search(tuned(trials=12, sampler="random", axes="{lr: [0.1, 0.2]}"), None, {})
    running = []
    while (trial := search.next()) is not None:
        running.append(trial)
    assert len({trial.trial_id for trial in running}) == len(running) == 4
    assert not search.over
    for trial in running:
        search.tell(trial, Outcome("complete", 0.5, 4))
    assert search.next() is None
    assert search.over
    assert not search.unfinished()


def value(trial: Trial, epoch: int) -> float:
    """A made-up accuracy that depends on the config, a little on the seed, and grows."""
    number = int(trial.config_id, 16) % 1000 / 1000
    return (number + int(trial.trial_id, 16) % 7 / 1000) * (1 - 0.5**epoch)


RACE = "stop: {asha: {grace_epochs: 1, reduction: 2}}\n"
CONFIRM = ", confirm: {top: 2, seeds: 3}"


def test_the_best_configs_of_each_cell_are_trained_again_on_fresh_seeds() -> None:
    plan = tuned(trials=6, sampler="random", seeds="[0, 1]", more=CONFIRM)
    simulated = simulate(plan, value)
    assert len(simulated.trials) == plan.planned == 2 * (6 * 2 + 2 * 3)
    for cell in plan.cells:
        of_cell = [t for t in simulated.trials.values() if t.cell_id == cell.cell_id]
        means: dict[str, list[float]] = {}
        for trial in of_cell:
            if trial.role == "searched":
                means.setdefault(trial.config_id, []).append(value(trial, 4))
        best = sorted(means, key=lambda config: -sum(means[config]))[:2]
        fresh = [t for t in of_cell if t.role == "confirmed"]
        assert Counter(t.config_id for t in fresh) == {config: 3 for config in best}
        assert {t.seed for t in fresh} == {1_000_000, 1_000_001, 1_000_002}


def test_confirming_waits_for_the_whole_search_of_its_cell() -> None:
    plan = tuned(trials=4, sampler="random", axes="{lr: {uniform: [0.1, 1]}}", more=CONFIRM)
    for slots in (1, 3):
        simulated = simulate(plan, value, slots=slots)
        for cell in plan.cells:
            trials = [simulated.trials[trial_id] for trial_id in simulated.started]
            roles = [trial.role for trial in trials if trial.cell_id == cell.cell_id]
            assert roles == ["searched"] * 4 + ["confirmed"] * 6


def test_the_other_seeds_of_a_stopped_config_are_not_trained() -> None:
    plan = tuned(trials=8, sampler="random", seeds="[0, 1, 2]", stop=RACE)
    simulated = simulate(plan, value)
    by_config: dict[str, list[Outcome]] = {}
    for trial in sorted(simulated.trials.values(), key=lambda trial: trial.seed):
        by_config.setdefault(trial.config_id, []).append(simulated.outcomes[trial.trial_id])
    assert len(by_config) == 16
    for first, *others in by_config.values():
        if first.state == "pruned":
            assert [(o.state, o.epochs_run) for o in others] == [("pruned", 0)] * 2
        else:
            assert [(o.state, o.epochs_run) for o in others] == [("complete", 4)] * 2
    assert {outcomes[0].state for outcomes in by_config.values()} == {"complete", "pruned"}


def test_a_config_that_clearly_loses_is_dropped_and_a_close_one_is_not() -> None:
    plan = tuned(trials=3, sampler="random", seeds="[0, 1, 2, 3]",
                 axes="{lr: [0.1, 0.2, 0.3]}", more=", drop: {after: 2, p: 0.1}")  # fmt: skip
    noise = {0: 0.01, 1: -0.01, 2: 0.02, 3: 0.0}
    # 0.3 is best; 0.2 is as good in the mean and differs from seed to seed; 0.1 loses every time.
    at = {0.3: 0.5, 0.2: 0.499, 0.1: 0.3}

    def curve(trial: Trial, epoch: int) -> float:
        swing = noise[trial.seed] if trial.config.lr == 0.2 else -noise[trial.seed] / 2
        return at[trial.config.lr] + swing

    simulated = simulate(plan, curve)
    ran = Counter(
        trial.config.lr for trial in simulated.trials.values()
        if simulated.outcomes[trial.trial_id].state == "complete"
        and trial.cell_id == plan.cells[0].cell_id
    )  # fmt: skip
    first = next(iter(simulated.trials.values())).config.lr
    # The very first config has no rival yet.
    assert ran[0.3] == ran[0.2] == 4
    assert ran[0.1] == (4 if first == 0.1 else 2)
    assert len(simulated.outcomes) == plan.planned


def test_the_test_of_a_loss_is_a_paired_t_test() -> None:
    from scipy.stats import ttest_1samp

    differences = [-0.03, -0.01, -0.02, 0.004]
    p = ttest_1samp(differences, 0, alternative="less").pvalue
    assert worse(differences, p + 1e-9)
    assert not worse(differences, p - 1e-9)
    assert not worse([-0.5], 0.4)
    assert worse([-0.1, -0.1], 0.001)
    assert not worse([0.1, 0.1], 0.49)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        *(("tpe", f"{rule}: {{}}") for rule in ("asha", "halving", "hyperband", "median")),
        ("tpe", "first_epochs: {}"),
        ("tpe", "halving: {rungs: 1, gap: 0.01}"),
        *((sampler, "asha: {}") for sampler in ("gp", "cmaes", "qmc")),
    ],
)
def test_a_search_with_everything_goes_on_after_a_cut_as_if_uncut(
    tmp_path: Path, sampler: str, rule: str
) -> None:
    plan = tuned(
        trials=12,
        sampler=sampler,
        axes=axes_for(sampler),
        seeds="[0, 1, 2]",
        more=", drop: {after: 2}, confirm: {top: 2, seeds: 2}",
        stop=f"stop: {{{rule}}}\n",
    )
    whole = Rerun(plan, Store(tmp_path / "whole")).run()
    cut = Rerun(plan, Store(tmp_path / "cut"))
    for epochs in (3, 11, 1, 30, 45):
        cut.run(epochs)
    assert cut.run() == whole
    assert cut.asked() == Rerun(plan, Store(tmp_path / "whole")).asked()


@pytest.mark.parametrize("sampler", ["tpe", *slow("gp")])
def test_a_suggestion_made_ahead_is_stored_with_what_it_knew(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grid.search.new_points.LONGEST_ASK_S", 0.0)
    threads = []

    def ask(study: CellStudy, draw: int, ask_study: Any = CellStudy.ask) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return ask_study(study, draw)

    monkeypatch.setattr(CellStudy, "ask", ask)
    plan = tuned(trials=16, sampler=sampler, axes="{lr: {uniform: [0.1, 1]}}")
    store = Store(tmp_path)
    search = Search(plan, store, {})
    running: deque[Trial] = deque()
    ended_trials: list[Trial] = []
    while True:
        while len(running) < 3 and (trial := search.next()) is not None:
            running.append(trial)
            search.prepare()
        if not running:
            break
        trial = running.popleft()
        write(store, trial, Outcome("complete", value(trial, 4), 4))
        search.tell(trial, Outcome("complete", value(trial, 4), 4))
        ended_trials.append(trial)
    assert threads.count(False) == 30  # all but each cell's first
    assert len({trial.trial_id for trial in ended_trials}) == 32
    lags = []
    for cell in plan.cells:
        known = 0
        for row in store.asked():
            if row["cell_id"] == cell.cell_id:
                known += len(json.loads(row["told"]))
                lags.append(row["suggestion"] - known)
    # Up to three trials were running; results after a suggestion are recorded with the next one.
    assert set(lags) <= {0, 1, 2, 3}
    assert max(lags) > 0
    rebuilt = Search(plan, store, store.finished())
    assert set(rebuilt.trials()) == {trial.trial_id for trial in ended_trials}
    assert rebuilt.next() is None


class Rerun:
    """Runs a plan over a store like the driver, with one slot; can stop at any epoch."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store

    def run(self, epochs: int | None = None) -> dict[str, tuple[str, float | None, int | None]]:
        """Train at most this many epochs; return the outcome of every trial."""
        search = Search(self.plan, self.store, self.store.finished())
        left = epochs
        while True:
            trial = search.next()
            self.end_skipped(search)
            if trial is None:
                break
            rows = self.store.epochs(trial.trial_id)
            for epoch in range(1, trial.config.epochs + 1):
                if len(rows) < epoch:
                    if left == 0:
                        return {}
                    left = None if left is None else left - 1
                    accuracy = value(trial, epoch)
                    rows.append({"trial_id": trial.trial_id, "epoch": epoch,
                                 "val_top1": accuracy, "ended_at": now()})  # fmt: skip
                    self.store.write("epochs", trial.trial_id, rows)
                    rows = self.store.epochs(trial.trial_id)
                elif epoch < len(rows):
                    continue  # before its checkpoint
                best = max(row["val_top1"] for row in rows)
                if epoch == trial.config.epochs:
                    self.write("trials", trial, "complete", best, epoch)
                    search.tell(trial, Outcome("complete", best, epoch))
                    break
                verdict = search.judge(trial, epoch, rows[epoch - 1]["val_top1"])
                if verdict.action == "wait":
                    self.write("paused", trial, "paused", best, epoch)
                    search.wait(trial, Outcome("paused", best, epoch))
                elif verdict.action == "end":
                    self.write("trials", trial, "pruned", best, epoch)
                    search.tell(trial, Outcome("pruned", best, epoch))
                if verdict.action != "go":
                    break
            self.end_skipped(search)
        finished = self.store.finished()
        return {t: (row.state, row.val_top1, row.epochs_run) for t, row in finished.items()}

    def end_skipped(self, search: Search) -> None:
        for trial, _ in search.skipped():
            at = self.store.paused(trial.trial_id).get(trial.trial_id, {})
            self.write("trials", trial, "pruned", at.get("val_top1"), at.get("epochs_run") or 0)

    def write(self, table: str, trial: Trial, state: str, best: float | None, epoch: int) -> None:
        row = {"trial_id": trial.trial_id, "config_id": trial.config_id, "state": state,
               "val_top1": best, "epochs_run": epoch, "ended_at": now()}  # fmt: skip
        self.store.write(table, trial.trial_id, [row])
        if table == "trials":
            self.store.drop_paused(trial.trial_id)

    def asked(self) -> list[dict[str, Any]]:
        """Return every stored suggestion."""
        keys = ("cell_id", "suggestion", "params", "role", "draw", "sampled_by", "trial_ids")
        return [{key: row[key] for key in keys} for row in self.store.asked()]


def test_a_longer_search_goes_on_where_the_shorter_one_ended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    short = run(tuned(trials=5), store)
    more = run(tuned(trials=9), store)
    assert len(short) == 10
    assert len(more) == 8
    assert short + more == run(tuned(trials=9), Store(tmp_path / "at-once"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"axes": "{lr: {uniform: [0.1, 0.2]}}"}, {"axes": "{lr: {uniform: [0.3, 0.4]}}"}),
        # A narrower axis: points inside it were drawn from another distribution.
        ({"axes": "{lr: {uniform: [0.1, 0.4]}}"}, {"axes": "{lr: {uniform: [0.1, 0.3]}}"}),
        # An axis is added, replaces a fixed setting, or is replaced by one.
        (
            {"axes": "{lr: {uniform: [0.1, 0.2]}}"},
            {"axes": "{lr: {uniform: [0.1, 0.2]}, weight_decay: {uniform: [0.1, 0.2]}}"},
        ),
        (
            {"axes": "{weight_decay: {uniform: [0.1, 0.2]}}", "fixed": ", lr: 0.1"},
            {"axes": "{lr: {uniform: [0.1, 0.2]}, weight_decay: {uniform: [0.1, 0.2]}}"},
        ),
        (
            {"axes": "{lr: {uniform: [0.1, 0.2]}, weight_decay: {uniform: [0.1, 0.2]}}"},
            {"axes": "{weight_decay: {uniform: [0.1, 0.2]}}", "fixed": ", lr: 0.1"},
        ),
        ({"sampler": "random"}, {"sampler": "tpe"}),
        ({"more": ", seed: 0"}, {"more": ", seed: 1"}),
        ({"epochs": 3}, {"epochs": 4}),
        ({"fixed": ", batch_size: 64"}, {"fixed": ", batch_size: 32"}),
    ],
)
def test_a_search_goes_by_the_sweep_file_of_today(
    before: dict[str, Any], after: dict[str, Any], tmp_path: Path
) -> None:
    """After any change a folder makes the suggestions of a fresh folder and has its winner."""

    def edited(change: dict[str, Any]) -> Plan:
        options = {"trials": 4, "axes": "{lr: {uniform: [0.1, 0.2]}}", **change}
        options["more"] = ", confirm: {top: 1, seeds: 2}" + change.get("more", "")
        return tuned(**options)

    store = Store(tmp_path / "edited")
    run(edited(before), store)
    notes: list[str] = []
    Search(edited(after), store, {}, keep=False, note=notes.append)
    assert notes[0].startswith("8 suggestions of an earlier version of the sweep file")
    again = run(edited(after), store)
    fresh = Store(tmp_path / "fresh")
    at_once = run(edited(after), fresh)
    assert set(again) <= set(at_once)
    keys = ("cell_id", "suggestion", "role", "config_id", "trial_ids")
    rows = [[{key: row[key] for key in keys} for row in one.asked()] for one in (store, fresh)]
    assert rows[0] == rows[1]
    assert notes[1:] == []


def test_finished_trials_of_a_grid_are_not_handed_out() -> None:
    text = "sweep: s\ncompare: {arch: [cnn3], lr: [0.1, 0.2, 0.3]}\n" + (
        "fixed: {dataset: digits, image_size: 32, epochs: 1, optimizer: sgd}\nseeds: [0, 1]\n"
    )
    facts = SimpleNamespace(image_size=8, class_count=10, fingerprint=None, validation=0)
    plan = expand_sweep(parse_sweep(text), lambda name, size: facts)
    finished: dict[str, Any] = {
        trial.trial_id: Finished(trial.trial_id, trial.config_id, "complete", None, 0.5, 1, 0)
        for trial in plan.trials[1:4]
    }
    search = Search(plan, None, finished)
    left = []
    while (trial := search.next()) is not None:
        left.append(trial.trial_id)
    assert left == [trial.trial_id for trial in (plan.trials[0], *plan.trials[4:])]
