"""Early stopping inside one cell: configs go on, wait or end by comparison with the others.

A rule looks at the first replicate (seed and fold) of every config, known here by the number of its
suggestion. A rule on a trial's own history is the config's `early_stop`.

Values are scores of the sweep's objective, the higher the better and minus infinity where it is
missing; a config counts with its best so far, as it will at its end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from heapq import nlargest
from itertools import islice
from statistics import fmean, median
from typing import Any, Literal

from cnncore.config import Objective
from grid.search.rungs import Stage, bracket_shares, bracket_stages, halving_stages, rung_epochs
from grid.sweep.spec import Asha, FirstEpochs, Halving, Hyperband, Median, Stop, StopRule


@dataclass(frozen=True)
class Verdict:
    """Decision on a config after an epoch: go on, wait with a checkpoint, or end; with a reason."""

    action: Literal["go", "wait", "end"]
    reason: str = ""


GO = Verdict("go")
VAL_TOP1 = Objective()


@dataclass(frozen=True)
class CellProgress:
    """Progress of a cell when a slot is free, as a rule needs it beside the curves.

    `waiting` and `running` are configs, `all_asked` is true once no new config will come, and
    `complete` counts the configs that were trained to their end.
    """

    waiting: Collection[int]
    running: Collection[int]
    all_asked: bool
    complete: int

    @property
    def closing(self) -> bool:
        """Return whether nothing in the cell changes any more unless a waiting config goes on."""
        return self.all_asked and not self.running


@dataclass
class Curves:
    """Values of every config of a cell: number -> epoch -> value."""

    values: dict[int, dict[int, float]] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)

    def note(self, number: int, epoch: int, value: float) -> None:
        """Store the value of an epoch; it may come again."""
        self.values.setdefault(number, {})[epoch] = value
        self._last[number] = max(epoch, self.last(number))

    def best(self, number: int, epoch: int) -> float:
        """Return the best value of a config up to an epoch."""
        return max(value for at, value in self.values[number].items() if at <= epoch)

    def last(self, number: int) -> int:
        """Return the last epoch of a config, 0 before the first."""
        return self._last.get(number, 0)


class CellRule(ABC):
    """Early stopping of one cell."""

    def __init__(self, rule: Any, epochs: int, wanted: int, objective: Objective) -> None:
        """Apply `rule`, a section of the sweep file, to a cell of trials of `epochs` epochs.

        At least `wanted` configs are trained to the end, if as many can be.
        """
        self.wanted = wanted
        self.objective = objective
        self.curves = Curves()
        # The epoch at which a config waited until it was promoted: it is not judged there again.
        self._promoted_at: dict[int, int] = {}

    def note(self, number: int, epoch: int, value: float) -> None:
        """Store a value from the results folder; a config's epochs come in their order."""
        self.curves.note(number, epoch, value)

    def judge(self, number: int, epoch: int, value: float, epochs: int) -> Verdict:
        """Decide on a config after `epoch` of its `epochs`."""
        self.note(number, epoch, value)
        # A config that went beyond this epoch before a cut goes beyond it again.
        if epoch >= epochs or self.curves.last(number) > epoch:
            return GO
        if epoch <= self._promoted_at.get(number, 0):
            return GO
        return self._judge(number, epoch)

    @abstractmethod
    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        """Return the epochs, below `epochs`, after which a config may have to wait."""

    @abstractmethod
    def most_waiting(self, configs: int, epochs: int) -> int:
        """Estimate how many of a cell's `configs` wait at a time, at most."""

    def stages(self, configs: int, epochs: int) -> list[Stage] | None:
        """Plan how many of a cell's `configs` train which epochs; None if the rule plans nothing.

        The last stage holds at least `wanted` configs.
        """
        stages = self._stages(configs, epochs)
        if stages is None:
            return None
        *earlier, last = stages
        return [*earlier, Stage(last.end, min(max(last.configs, self.wanted), configs))]

    def _stages(self, configs: int, epochs: int) -> list[Stage] | None:
        return None

    @abstractmethod
    def _judge(self, number: int, epoch: int) -> Verdict:
        """Decide on a config whose last epoch is `epoch`."""

    def _wait(self, rule: str, value: float, epoch: int, best: str) -> Verdict:
        """Return the verdict on a config that is not among the `best`, a phrase, after an epoch."""
        text = self.objective.text(value)
        return Verdict("wait", f"{rule}: {text} after epoch {epoch}, not among the best {best}")

    def promote(self, progress: CellProgress) -> int | None:
        """Choose the waiting config that goes on now; None if none does."""
        number = self._promote(progress)
        if number is not None:
            self._promoted_at[number] = self.curves.last(number)
        return number

    def _promote(self, progress: CellProgress) -> int | None:
        return None


class AsyncHalving(CellRule):
    """Asynchronous successive halving, with promotion (arXiv 1810.05934, algorithm 2).

    Of n configs that reached a rung the best floor(n / reduction) may go on; the others wait. Once
    nothing else is left to do, the best configs that wait at the highest rung go on until `wanted`
    configs are complete.
    """

    def __init__(
        self, rule: Asha, epochs: int, wanted: int, objective: Objective, name: str = "asha"
    ) -> None:
        super().__init__(rule, epochs, wanted, objective)
        self.name = name
        self.grace_epochs = rule.grace_epochs
        self.reduction = rule.reduction
        # Rung -> the configs that reached it, best first, as (-value, number).
        self._ranked: dict[int, list[tuple[float, int]]] = {}

    def note(self, number: int, epoch: int, value: float) -> None:
        if self._is_rung(epoch):
            ranked = self._ranked.setdefault(epoch, [])
            if epoch in self.curves.values.get(number, ()):
                ranked.remove((-self.curves.best(number, epoch), number))
            super().note(number, epoch, value)
            insort(ranked, (-self.curves.best(number, epoch), number))
        else:
            super().note(number, epoch, value)

    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        return rung_epochs(self.grace_epochs, self.reduction, epochs)

    def most_waiting(self, configs: int, epochs: int) -> int:
        if not (rungs := self.pause_epochs(0, epochs)):
            return 0
        through: int = configs // self.reduction ** len(rungs)
        return max(0, configs - max(through, self.wanted))

    def _stages(self, configs: int, epochs: int) -> list[Stage]:
        rungs = rung_epochs(self.grace_epochs, self.reduction, epochs)
        return halving_stages(rungs, self.reduction, configs, epochs)

    def _judge(self, number: int, epoch: int) -> Verdict:
        if not self._is_rung(epoch):
            return GO
        ranked, value = self._ranked[epoch], self.curves.best(number, epoch)
        allowed = len(ranked) // self.reduction
        # Of equal ones the earliest goes on.
        if bisect_left(ranked, (-value, number)) < allowed:
            return GO
        return self._wait(
            self.name, value, epoch, f"1/{self.reduction} of the cell's {len(ranked)} configs there"
        )

    def _promote(self, progress: CellProgress) -> int | None:
        for rung in sorted(self._ranked, reverse=True):
            ranked = self._ranked[rung]
            for _, number in islice(ranked, len(ranked) // self.reduction):
                if number in progress.waiting and self.curves.last(number) == rung:
                    return number
        if progress.closing and progress.complete < self.wanted:
            return furthest(self.curves, progress.waiting)
        return None

    def _is_rung(self, epoch: int) -> bool:
        return epoch in rung_epochs(self.grace_epochs, self.reduction, epoch + 1)


class SyncHalving(CellRule):
    """Successive halving: at a rung configs wait until all of the cell reached it.

    After the last rung a config that is far behind the cell's `wanted` best at the same epoch waits
    too; it goes on only if too few others become complete.
    """

    def __init__(self, rule: Halving, epochs: int, wanted: int, objective: Objective) -> None:
        super().__init__(rule, epochs, wanted, objective)
        self.reduction = rule.reduction
        self.gap = rule.gap
        rungs = rung_epochs(rule.grace_epochs, rule.reduction, epochs)
        self.rungs = rungs if rule.rungs is None else rungs[: rule.rungs]

    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        rungs = tuple(rung for rung in self.rungs if rung < epochs)
        if self.gap is None or not rungs:
            return rungs
        return (*rungs, *range(2 * rungs[-1], epochs, rungs[-1]))

    def most_waiting(self, configs: int, epochs: int) -> int:
        return configs if self.pause_epochs(0, epochs) else 0

    def _stages(self, configs: int, epochs: int) -> list[Stage]:
        return halving_stages(self.rungs, self.reduction, configs, epochs)

    def _judge(self, number: int, epoch: int) -> Verdict:
        value = self.curves.best(number, epoch)
        if epoch in self.rungs:
            return self._wait("halving", value, epoch, f"1/{self.reduction} of the cell")
        if self.gap is None or epoch < self.rungs[-1] or epoch % self.rungs[-1]:
            return GO
        reached = (n for n in self.curves.values if self.curves.last(n) >= epoch)
        best = nlargest(self.wanted, (self.curves.best(n, epoch) for n in reached))
        # Equal ones first: two missing values have no difference.
        if len(best) < self.wanted or value == best[-1] or best[-1] - value <= self.gap:
            return GO
        text = f"halving: {self.objective.text(value)} after epoch {epoch}, more than {self.gap:g} "
        side = "above" if self.objective.lower_is_better else "below"
        text += f"{side} {self.objective.number(best[-1])}, the cell's best there"
        return Verdict("wait", text)

    def _promote(self, progress: CellProgress) -> int | None:
        curves = self.curves
        if not progress.all_asked:
            return None
        for rung in self.rungs:
            if any(curves.last(number) < rung for number in progress.running):
                return None
            ranked = [n for n, curve in curves.values.items() if rung in curve]
            ranked.sort(key=lambda n: (-curves.best(n, rung), n))
            for number in ranked[: math.ceil(len(ranked) / self.reduction)]:
                if number in progress.waiting and curves.last(number) == rung:
                    return number
        if progress.closing and progress.complete < self.wanted:
            return furthest(curves, progress.waiting)
        return None


class Brackets(CellRule):
    """Asynchronous Hyperband: a halving per grace period; the last bracket compares nothing.

    Config n goes to the bracket that is furthest behind its share. Shares are as many configs as
    each bracket of Hyperband starts with (arXiv 1603.06560, algorithm 1).
    """

    def __init__(self, rule: Hyperband, epochs: int, wanted: int, objective: Objective) -> None:
        super().__init__(rule, epochs, wanted, objective)
        self._rule = rule
        self._brackets = [
            AsyncHalving(
                Asha(grace_epochs=start, reduction=rule.reduction),
                epochs,
                0,
                objective,
                "hyperband",
            )
            for start in self._ends(epochs)
        ]
        self._shares = bracket_shares(len(self._brackets), rule.reduction)
        self._assigned: list[int] = []

    def note(self, number: int, epoch: int, value: float) -> None:
        super().note(number, epoch, value)
        self._bracket(number).note(number, epoch, value)

    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        return self._bracket(number).pause_epochs(number, epochs)

    def most_waiting(self, configs: int, epochs: int) -> int:
        brackets = [self._bracket(number) for number in range(configs)]
        return sum(
            bracket.most_waiting(brackets.count(bracket), epochs) for bracket in self._brackets
        )

    def _stages(self, configs: int, epochs: int) -> list[Stage]:
        return bracket_stages(self._ends(epochs), self._rule.reduction, configs)

    def _ends(self, epochs: int) -> tuple[int, ...]:
        """Return the grace periods of the brackets; the last one is the whole budget."""
        return (*rung_epochs(self._rule.grace_epochs, self._rule.reduction, epochs), epochs)

    def _judge(self, number: int, epoch: int) -> Verdict:
        return self._bracket(number)._judge(number, epoch)

    def _promote(self, progress: CellProgress) -> int | None:
        # A bracket alone never closes.
        still_open = replace(progress, all_asked=False)
        for bracket in self._brackets:
            if (number := bracket._promote(still_open)) is not None:
                return number
        if progress.closing and progress.complete < self.wanted:
            return furthest(self.curves, progress.waiting)
        return None

    def _bracket(self, number: int) -> AsyncHalving:
        """Return the bracket of a config, and assign it one if it is new."""
        total = sum(self._shares)
        while len(self._assigned) <= number:
            n = len(self._assigned) + 1
            missing = [
                share * n / total - self._assigned.count(bracket)
                for bracket, share in enumerate(self._shares)
            ]
            self._assigned.append(missing.index(max(missing)))
        return self._brackets[self._assigned[number]]


class MedianRule(CellRule):
    """Median rule: a config ends if its best value is below the median of the others' means."""

    def __init__(self, rule: Median, epochs: int, wanted: int, objective: Objective) -> None:
        super().__init__(rule, epochs, wanted, objective)
        self.rule = rule

    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        return ()

    def most_waiting(self, configs: int, epochs: int) -> int:
        return 0

    def _judge(self, number: int, epoch: int) -> Verdict:
        if epoch < self.rule.grace_epochs:
            return GO
        others = [
            fmean(value for at, value in curve.items() if at <= epoch)
            for other, curve in self.curves.values.items()
            if other != number and epoch in curve
        ]
        if len(others) < self.rule.min_configs:
            return GO
        best, middle = self.curves.best(number, epoch), median(others)
        if best >= middle:
            return GO
        side = "above" if self.objective.lower_is_better else "below"
        return Verdict(
            "end",
            f"median: best {self.objective.text(best)} by epoch {epoch}, {side} "
            f"{self.objective.number(middle)}, the median of the means of {len(others)} other "
            "configs of the cell",
        )


class FirstEpochsRule(CellRule):
    """First epochs for all configs, then the best `keep` are trained to the end."""

    def __init__(self, rule: FirstEpochs, epochs: int, wanted: int, objective: Objective) -> None:
        super().__init__(rule, epochs, max(wanted, rule.keep), objective)
        self.rule = rule

    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        return (self.rule.epochs,) if self.rule.epochs < epochs else ()

    def most_waiting(self, configs: int, epochs: int) -> int:
        return configs if self.pause_epochs(0, epochs) else 0

    def _stages(self, configs: int, epochs: int) -> list[Stage]:
        return [Stage(min(self.rule.epochs, epochs), configs), Stage(epochs, self.wanted)]

    def _judge(self, number: int, epoch: int) -> Verdict:
        if epoch != self.rule.epochs:
            return GO
        value = self.curves.best(number, epoch)
        return self._wait("first_epochs", value, epoch, f"{self.wanted} of the cell")

    def _promote(self, progress: CellProgress) -> int | None:
        at, curves = self.rule.epochs, self.curves
        if not progress.all_asked or any(curves.last(n) < at for n in progress.running):
            return None
        if progress.complete + len(progress.running) >= self.wanted:
            return None
        return max(progress.waiting, key=lambda n: (curves.best(n, at), -n), default=None)


def furthest(curves: Curves, waiting: Collection[int]) -> int | None:
    """Return the best of the configs that came furthest; of equal ones the earliest."""
    return max(
        waiting, key=lambda n: (curves.last(n), curves.best(n, curves.last(n)), -n), default=None
    )


# The section of the sweep file -> the class that applies it in one cell.
CELL_RULES: dict[type[StopRule], type[CellRule]] = {
    Asha: AsyncHalving,
    Halving: SyncHalving,
    Hyperband: Brackets,
    Median: MedianRule,
    FirstEpochs: FirstEpochsRule,
}


def cell_rule(stop: Stop, epochs: int, wanted: int, objective: Objective = VAL_TOP1) -> CellRule:
    """Return the rule of a cell whose configs are trained for at most `epochs` epochs."""
    return CELL_RULES[type(stop.rule)](stop.rule, epochs, wanted, objective)
