"""Search by another objective: direction and missing values, in memory and from the tables."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from grid.plan.ids import Trial
from grid.plan.plan import Plan
from grid.search.outcomes import Outcome, worse
from grid.search.sweep_search import Search
from grid.store.folder import Store, now
from tests.small_plans import axes_for, tuned

RULES = {
    "asha": "stop: {asha: {grace_epochs: 1, reduction: 2}}\n",
    "halving": "stop: {halving: {grace_epochs: 1, reduction: 2, rungs: 1, gap: 0.05}}\n",
    "hyperband": "stop: {hyperband: {grace_epochs: 1, reduction: 2}}\n",
    "median": "stop: {median: {grace_epochs: 1, min_configs: 2}}\n",
    "first_epochs": "stop: {first_epochs: {epochs: 2, keep: 2}}\n",
}
SLOW_RULES = ("asha", "hyperband", "first_epochs")
# A trial as a search of another objective has it too: its ids differ.
Step = tuple[str, int | None, str, int, str, str]


def goodness(trial: Trial, epoch: int) -> float:
    """A made-up score in (0, 1) that depends on the point and the epoch, not on ids."""
    config = trial.config
    noise = math.sin(1e4 * config.lr + 3 * epoch + config.batch_size + trial.seed)
    return (1 - 1 / (1 + 50 * config.lr)) * (1 - math.exp(-epoch)) * (0.95 + 0.05 * noise)


@dataclass
class Run:
    """Runs a plan over a store like the driver, with one slot; stops after some epochs.

    With the objective `val_loss` accuracies say the contrary, so whoever goes by them is found out.
    """

    plan: Plan
    store: Store
    missing: float = math.inf  # configs with a larger rate have no value

    def columns(self, trial: Trial, epoch: int) -> dict[str, float | None]:
        score = goodness(trial, epoch)
        if self.plan.objective.is_default:
            return {"val_top1": score, "objective": None}
        lost = trial.config.lr > self.missing
        return {"val_top1": 1 - score, "objective": math.nan if lost else -score}

    def score(self, row: dict[str, float | None]) -> float:
        score = self.plan.objective.score_if_any(row["val_top1"], row["objective"])
        assert score is not None
        return score

    def run(self, epochs: int = 10_000) -> list[Step]:
        """Train at most this many epochs; return the steps, in order."""
        search = Search(self.plan, self.store, self.store.finished())
        steps: list[Step] = []
        while (trial := search.next()) is not None:
            self.end_skipped(search)
            known = self.store.epochs(trial.trial_id)
            rows = [{key: row[key] for key in ("trial_id", "epoch", "val_top1", "objective")}
                    | {"ended_at": now()} for row in known]  # fmt: skip
            for epoch in range(max(len(rows), 1), trial.config.epochs + 1):
                if len(rows) < epoch:
                    if not epochs:
                        return steps
                    epochs -= 1
                    rows.append({"trial_id": trial.trial_id, "epoch": epoch, "ended_at": now(),
                                 **self.columns(trial, epoch)})  # fmt: skip
                    self.store.write("epochs", trial.trial_id, rows)
                best = max(rows, key=self.score)
                outcome = Outcome("complete", self.score(best), epoch)
                action = "end"
                if epoch < trial.config.epochs:
                    verdict = search.judge(trial, epoch, self.score(rows[-1]))
                    action = verdict.action
                    state = {"wait": "paused", "end": "pruned", "go": "running"}[action]
                    outcome = Outcome(state, outcome.score, epoch)
                    assert "val_top1" not in verdict.reason or self.plan.objective.is_default
                steps.append((trial.config.optimizer, trial.suggestion, trial.role, epoch, action,
                              f"{trial.config.lr:.6g}"))  # fmt: skip
                if action == "go":
                    continue
                table = "paused" if action == "wait" else "trials"
                self.write(table, trial, outcome, best)
                (search.wait if action == "wait" else search.tell)(trial, outcome)
                break
        self.end_skipped(search)
        return steps

    def end_skipped(self, search: Search) -> None:
        for trial, _ in search.skipped():
            at = self.store.paused(trial.trial_id).get(trial.trial_id, {})
            outcome = Outcome("pruned", None, at.get("epochs_run") or 0)
            self.write("trials", trial, outcome, at)

    def write(
        self, table: str, trial: Trial, outcome: Outcome, best: dict[str, float | None]
    ) -> None:
        row = {"trial_id": trial.trial_id, "config_id": trial.config_id, "state": outcome.state,
               "val_top1": best.get("val_top1"), "objective": best.get("objective"),
               "epochs_run": outcome.epochs_run, "ended_at": now()}  # fmt: skip
        self.store.write(table, trial.trial_id, [row])
        if table == "trials":
            self.store.drop_paused(trial.trial_id)


def plan_of(rule: str, sampler: str, objective: str, **more: str) -> Plan:
    return tuned(
        12,
        sampler,
        axes=axes_for(sampler),
        stop=RULES.get(rule, ""),
        more=", confirm: {top: 1, seeds: 1}" + more.get("more", ""),
        seeds=more.get("seeds", "[0]"),
        fixed=f", objective: {objective}",
    )


@pytest.mark.parametrize(
    ("rule", "sampler"),
    [
        ("asha", "tpe"),
        ("halving", "random"),
        ("median", "random"),
        *(pytest.param(rule, "random", marks=pytest.mark.slow) for rule in SLOW_RULES),
        *(pytest.param("", sampler, marks=pytest.mark.slow) for sampler in ("tpe", "gp", "cmaes")),
    ],
)
def test_a_loss_is_searched_as_its_negative_would_be_also_after_cuts(
    tmp_path: Path, rule: str, sampler: str
) -> None:
    by_accuracy = Run(plan_of(rule, sampler, "val_top1"), Store(tmp_path / "accuracy")).run()
    by_loss = Run(plan_of(rule, sampler, "val_loss"), Store(tmp_path / "loss")).run()
    assert by_loss == by_accuracy
    assert any(step[2] == "confirmed" for step in by_loss)
    cut = Run(plan_of(rule, sampler, "val_loss"), Store(tmp_path / "cut"))
    steps = set(cut.run(9)) | set(cut.run(21)) | set(cut.run())
    assert steps == set(by_loss)


def test_dropped_configs_are_those_of_the_higher_loss(tmp_path: Path) -> None:
    more = {"seeds": "[0, 1, 2]", "more": ", drop: {after: 2, p: 0.2}"}
    by_accuracy, by_loss = (
        Run(plan_of("", "random", name, **more), Store(tmp_path / name)).run()
        for name in ("val_top1", "val_loss")
    )
    assert by_loss == by_accuracy
    assert len(by_loss) < 2 * 12 * 3 * 4, "some were dropped"


@pytest.mark.parametrize(
    ("rule", "sampler"),
    [
        *((rule, "tpe") for rule in RULES),
        ("", "cmaes"),
        pytest.param("", "gp", marks=pytest.mark.slow),
    ],
)
def test_a_missing_value_is_the_worst(tmp_path: Path, rule: str, sampler: str) -> None:
    plan = plan_of(rule, sampler, "val_loss")
    run = Run(plan, Store(tmp_path / "missing"), missing=0.01)
    run.run()
    asked = run.store.asked()
    for cell in plan.cells:
        of_cell = [row for row in asked if row["cell_id"] == cell.cell_id]
        (winner,) = (row for row in of_cell if row["role"] == "confirmed")
        rate = json.loads(winner["params"])["lr"]
        known = [json.loads(row["params"])["lr"] for row in of_cell]
        assert rate <= 0.01 < max(known)
        told = [result for row in of_cell for result in json.loads(row["told"])]
        assert any(value is None for _, state, value, _ in told if state != "failed")


def test_a_missing_value_loses_the_paired_test() -> None:
    assert worse([-math.inf, 0.2], 0.1)
    assert not worse([math.inf, -math.inf], 0.1)
    assert not worse([math.nan, 0.1], 0.1)
    assert worse([math.nan, -math.inf], 0.1)
