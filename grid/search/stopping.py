"""Early stopping inside one cell: which configs go on, wait or end, by what others reached.

A rule looks at the first replicate (seed and fold) of every config, known here by the number of its
suggestion. A rule on a trial's own history is the config's `early_stop`.

Values are validation accuracies; a config counts with its best so far, as it will at its end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Collection
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import islice
from statistics import fmean, median
from typing import Literal

from grid.sweep.spec import Asha, FirstEpochs, Halving, Hyperband, Median, Stop


@dataclass(frozen=True)
class Verdict:
    """What a config does after an epoch: it goes on, waits with a checkpoint, or ends; and why."""

    action: Literal["go", "wait", "end"]
    reason: str = ""


GO = Verdict("go")


def waiting(rule: str, val_top1: float, epoch: int, best: str) -> Verdict:
    """The verdict on a config that is not among the `best`, in words, after an epoch."""
    text = f"{rule}: val_top1 {val_top1:.4f} after epoch {epoch}, not among the best {best}"
    return Verdict("wait", text)


@dataclass(frozen=True)
class Standing:
    """What a rule must know of its cell beside the curves, when a slot is free.

    `waiting` and `running` are configs, `asked` says that no new one will come, and `complete`
    counts those that were trained to their end.
    """

    waiting: Collection[int]
    running: Collection[int]
    asked: bool
    complete: int

    @property
    def closing(self) -> bool:
        """Whether nothing in the cell will change any more unless a waiting config goes on."""
        return self.asked and not self.running


@dataclass
class Curves:
    """What every config of a cell reached: number -> epoch -> value."""

    values: dict[int, dict[int, float]] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)

    def note(self, number: int, epoch: int, value: float) -> None:
        """Take the value of an epoch; it may come again."""
        self.values.setdefault(number, {})[epoch] = value
        self._last[number] = max(epoch, self.last(number))

    def best(self, number: int, epoch: int) -> float:
        """The best value of a config up to an epoch."""
        return max(value for at, value in self.values[number].items() if at <= epoch)

    def last(self, number: int) -> int:
        """The last epoch of a config, 0 before the first."""
        return self._last.get(number, 0)


class CellRule(ABC):
    """The early stopping of one cell."""

    def __init__(self, wanted: int) -> None:
        """At least `wanted` configs are trained to the end, if as many can be."""
        self.wanted = wanted
        self.curves = Curves()
        # The epoch at which a config waited until it was promoted: it is not judged there again.
        self._promoted_at: dict[int, int] = {}

    def note(self, number: int, epoch: int, value: float) -> None:
        """Take what the results folder says, a config's epochs in their order."""
        self.curves.note(number, epoch, value)

    def judge(self, number: int, epoch: int, value: float, epochs: int) -> Verdict:
        """Say what a config does after `epoch` of its `epochs`."""
        self.note(number, epoch, value)
        # What went beyond this epoch before a cut goes beyond it again.
        if epoch >= epochs or self.curves.last(number) > epoch:
            return GO
        if epoch <= self._promoted_at.get(number, 0):
            return GO
        return self._judge(number, epoch)

    @abstractmethod
    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        """The epochs, below `epochs`, after which a config may be told to wait."""

    @abstractmethod
    def most_waiting(self, configs: int, epochs: int) -> int:
        """How many of so many configs may wait at a time, about."""

    @abstractmethod
    def _judge(self, number: int, epoch: int) -> Verdict:
        """Judge a config of which `epoch` is the last epoch."""

    def promote(self, standing: Standing) -> int | None:
        """Which of the waiting configs goes on now."""
        number = self._promote(standing)
        if number is not None:
            self._promoted_at[number] = self.curves.last(number)
        return number

    def _promote(self, standing: Standing) -> int | None:
        return None


class AsyncHalving(CellRule):
    """Asynchronous successive halving, with promotion (arXiv 1810.05934, algorithm 2).

    Of n configs that came to a rung the best floor(n / reduction) may go on; the others wait. Once
    nothing else is left to do, the best ones that wait at the highest rung go on until `wanted`
    configs are complete.
    """

    def __init__(self, name: str, grace_epochs: int, reduction: int, wanted: int) -> None:
        super().__init__(wanted)
        self.name = name
        self.grace_epochs = grace_epochs
        self.reduction = reduction
        # Rung -> the configs that came there, best first, as (-value, number).
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

    def _judge(self, number: int, epoch: int) -> Verdict:
        if not self._is_rung(epoch):
            return GO
        ranked, value = self._ranked[epoch], self.curves.best(number, epoch)
        allowed = len(ranked) // self.reduction
        # Of equal ones the earliest goes on.
        if bisect_left(ranked, (-value, number)) < allowed:
            return GO
        return waiting(
            self.name, value, epoch, f"1/{self.reduction} of the cell's {len(ranked)} configs there"
        )

    def _promote(self, standing: Standing) -> int | None:
        for rung in sorted(self._ranked, reverse=True):
            ranked = self._ranked[rung]
            for _, number in islice(ranked, len(ranked) // self.reduction):
                if number in standing.waiting and self.curves.last(number) == rung:
                    return number
        if standing.closing and standing.complete < self.wanted:
            return furthest(self.curves, standing.waiting)
        return None

    def _is_rung(self, epoch: int) -> bool:
        return epoch in rung_epochs(self.grace_epochs, self.reduction, epoch + 1)


class SyncHalving(CellRule):
    """Successive halving: at a rung configs wait until all of the cell came there.

    After the last rung a config that is far behind the cell's best (of which there are `wanted`) at
    the same epoch waits too; only where too few become complete does it go on.
    """

    def __init__(self, rule: Halving, epochs: int, wanted: int) -> None:
        super().__init__(wanted)
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

    def _judge(self, number: int, epoch: int) -> Verdict:
        value = self.curves.best(number, epoch)
        if epoch in self.rungs:
            return waiting("halving", value, epoch, f"1/{self.reduction} of the cell")
        if self.gap is None or epoch < self.rungs[-1] or epoch % self.rungs[-1]:
            return GO
        there = (n for n in self.curves.values if self.curves.last(n) >= epoch)
        best = nlargest(self.wanted, (self.curves.best(n, epoch) for n in there))
        if len(best) < self.wanted or best[-1] - value <= self.gap:
            return GO
        text = f"halving: val_top1 {value:.4f} after epoch {epoch}, more than {self.gap:g} below "
        return Verdict("wait", f"{text}{best[-1]:.4f}, the cell's best there")

    def _promote(self, standing: Standing) -> int | None:
        curves = self.curves
        if not standing.asked:
            return None
        for rung in self.rungs:
            if any(curves.last(number) < rung for number in standing.running):
                return None
            here = [n for n, curve in curves.values.items() if rung in curve]
            here.sort(key=lambda n: (-curves.best(n, rung), n))
            for number in here[: math.ceil(len(here) / self.reduction)]:
                if number in standing.waiting and curves.last(number) == rung:
                    return number
        if standing.closing and standing.complete < self.wanted:
            return furthest(curves, standing.waiting)
        return None


class Brackets(CellRule):
    """Asynchronous Hyperband: a halving per grace period; the last bracket compares nothing.

    Config n goes to the bracket that is furthest behind its share. Shares are as many configs as
    each bracket of Hyperband starts with (arXiv 1603.06560, algorithm 1).
    """

    def __init__(self, rule: Hyperband, epochs: int, wanted: int) -> None:
        super().__init__(wanted)
        starts = [*rung_epochs(rule.grace_epochs, rule.reduction, epochs), epochs]
        self._brackets = [AsyncHalving("hyperband", start, rule.reduction, 0) for start in starts]
        self._shares = bracket_shares(len(starts), rule.reduction)
        self._assigned: list[int] = []

    def note(self, number: int, epoch: int, value: float) -> None:
        super().note(number, epoch, value)
        self._of(number).note(number, epoch, value)

    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        return self._of(number).pause_epochs(number, epochs)

    def most_waiting(self, configs: int, epochs: int) -> int:
        brackets = [self._of(number) for number in range(configs)]
        counts = [brackets.count(bracket) for bracket in self._brackets]
        waiting = zip(self._brackets, counts, strict=True)
        return sum(bracket.most_waiting(count, epochs) for bracket, count in waiting)

    def _judge(self, number: int, epoch: int) -> Verdict:
        return self._of(number)._judge(number, epoch)

    def _promote(self, standing: Standing) -> int | None:
        never = Standing(standing.waiting, standing.running, False, standing.complete)
        for bracket in self._brackets:
            found = bracket._promote(never)
            if found is not None:
                return found
        if standing.closing and standing.complete < self.wanted:
            return furthest(self.curves, standing.waiting)
        return None

    def _of(self, number: int) -> AsyncHalving:
        total = sum(self._shares)
        while len(self._assigned) <= number:
            n = len(self._assigned) + 1
            behind = [
                share * n / total - self._assigned.count(bracket)
                for bracket, share in enumerate(self._shares)
            ]
            self._assigned.append(behind.index(max(behind)))
        return self._brackets[self._assigned[number]]


class MedianRule(CellRule):
    """A config ends where its best value is below the median of the others' running means."""

    def __init__(self, rule: Median, wanted: int) -> None:
        super().__init__(wanted)
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
        return Verdict(
            "end",
            f"median: best val_top1 {best:.4f} by epoch {epoch}, below {middle:.4f}, the median of "
            f"the means of {len(others)} other configs of the cell",
        )


class First(CellRule):
    """All configs are trained for some epochs, then the best `keep` to the end."""

    def __init__(self, rule: FirstEpochs, wanted: int) -> None:
        super().__init__(max(wanted, rule.keep))
        self.rule = rule

    def pause_epochs(self, number: int, epochs: int) -> tuple[int, ...]:
        return (self.rule.epochs,) if self.rule.epochs < epochs else ()

    def most_waiting(self, configs: int, epochs: int) -> int:
        return configs if self.pause_epochs(0, epochs) else 0

    def _judge(self, number: int, epoch: int) -> Verdict:
        if epoch != self.rule.epochs:
            return GO
        value = self.curves.best(number, epoch)
        return waiting("first_epochs", value, epoch, f"{self.wanted} of the cell")

    def _promote(self, standing: Standing) -> int | None:
        at, curves = self.rule.epochs, self.curves
        if not standing.asked or any(curves.last(n) < at for n in standing.running):
            return None
        ahead = standing.complete + len(standing.running)
        if ahead >= self.wanted:
            return None
        return max(standing.waiting, key=lambda n: (curves.best(n, at), -n), default=None)


def furthest(curves: Curves, waiting: Collection[int]) -> int | None:
    """The best of the configs that came furthest; of equal ones the earliest."""
    return max(
        waiting, key=lambda n: (curves.last(n), curves.best(n, curves.last(n)), -n), default=None
    )


def bracket_shares(brackets: int, reduction: int) -> list[int]:
    """How many configs each bracket of Hyperband starts with, in proportion."""
    top = brackets - 1
    return [math.ceil(brackets / (top - n + 1) * reduction ** (top - n)) for n in range(brackets)]


def rung_epochs(grace_epochs: int, reduction: int, epochs: int) -> tuple[int, ...]:
    """Epochs at which configs are compared: `grace_epochs` times powers of `reduction`, below
    `epochs` (a trial that reaches its budget is complete).
    """
    rungs = []
    rung = grace_epochs
    while rung < epochs:
        rungs.append(rung)
        rung *= reduction
    return tuple(rungs)


def cell_rule(stop: Stop, epochs: int, wanted: int) -> CellRule:
    """The rule of a cell whose configs are trained for at most `epochs` epochs."""
    rule = stop.rule
    if isinstance(rule, Asha):
        return AsyncHalving("asha", rule.grace_epochs, rule.reduction, wanted)
    if isinstance(rule, Halving):
        return SyncHalving(rule, epochs, wanted)
    if isinstance(rule, Hyperband):
        return Brackets(rule, epochs, wanted)
    if isinstance(rule, Median):
        return MedianRule(rule, wanted)
    return First(rule, wanted)
