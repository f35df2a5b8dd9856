"""One Optuna study per tuned cell, which suggests the next point.

Draw d of a cell comes from a sampler of its own, seeded by the sweep, the cell and d, over the
results told before it in the order of telling. So a study that is given the same draws and the
same results again goes on as the first one would.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from grid.sweep.axes import Choice, IntRange, LogUniform, applies, in_order
from grid.sweep.spec import STARTUP_TRIALS, Tune

if TYPE_CHECKING:
    import optuna

Params = dict[str, Any]
State = Literal["complete", "pruned", "failed"]

# Slow samplers whose suggestions can be made before the last trials ended.
SLOW_SAMPLERS = ("tpe", "gp")
# Samplers that use no results.
MODEL_FREE_SAMPLERS = ("random", "qmc")


@dataclass(frozen=True)
class SuggestionResult:
    """Result of a suggestion as its study knows it.

    It is `complete` with its mean score, `pruned` with the score after `epoch` epochs (it may still
    go on), or `failed`. The higher the score the better; `value` is None if it is missing, which is
    the worst.
    """

    number: int
    state: State
    value: float | None = None
    epoch: int | None = None

    @classmethod
    def of(
        cls, number: int, state: State, score: float | None, epoch: int | None = None
    ) -> SuggestionResult:
        """Return the result with a score; minus infinity, a missing one, is None: JSON has none."""
        return cls(number, state, None if score == -math.inf else score, epoch)

    @property
    def score(self) -> float:
        """Return the score for Optuna, whose samplers take minus infinity as the worst."""
        return -math.inf if self.value is None else self.value

    def as_list(self) -> list[Any]:
        """Return the result as a JSON list."""
        return [self.number, self.state, self.value, self.epoch]


@dataclass(frozen=True)
class Draw:
    """Use of a draw: it is the next suggestion, it is skipped, or another point replaces it."""

    use: Literal["taken", "skipped", "replaced"]
    seed: int


class CellStudy:
    """Suggestions of one cell, numbered from 0, and their results.

    The first `ask` that needs Optuna imports it and replays the events so far.
    """

    def __init__(self, tune: Tune, axes: Mapping[str, Any], cell_id: str) -> None:
        self._tune = tune
        self._axes = dict(axes)
        self._cell_id = cell_id
        self._params: list[Params] = []
        self._events: list[Draw | SuggestionResult] = []
        self._optuna: _OptunaStudy | None = None
        self._sobol: Any = None

    def ask(self, draw: int) -> Params:
        """Return the values of a draw, by axis; axes whose `when` fails are left out.

        `take` or `skip` must follow.
        """
        if self._tune.sampler == "qmc":
            return self._params_at(self._sobol_point(draw))
        if self._optuna is None:
            self._optuna = _OptunaStudy(self._tune.sampler, self._axes)
        self._optuna.replay(self._events, self._params)
        return self._optuna.ask(self._seed(draw))

    def take(self, draw: int, params: Params, *, own: bool = True) -> None:
        """Make a draw the next suggestion; without `own`, `params` are not the draw's own point."""
        self._events.append(Draw("taken" if own else "replaced", self._seed(draw)))
        self._params.append(params)

    def skip(self, draw: int) -> None:
        """Leave a draw unused, because the cell has its point."""
        self._events.append(Draw("skipped", self._seed(draw)))

    def tell(self, result: SuggestionResult) -> None:
        """Tell the result of a suggestion that ended or waits; it replaces an earlier one."""
        if self._tune.sampler not in MODEL_FREE_SAMPLERS:
            self._events.append(result)

    def random_point(self, draw: int) -> Params:
        """Return a point at random, without regard to results."""
        sampler = _OptunaStudy("random", self._axes)
        return sampler.ask(self._seed(draw))

    def _seed(self, draw: int) -> int:
        text = f"{self._tune.seed}:{self._cell_id}:{draw}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])

    def _sobol_point(self, draw: int) -> list[float]:
        """Return point `draw` of the cell's scrambled Sobol sequence: numbers in [0, 1)."""
        from scipy.stats.qmc import Sobol

        if self._sobol is None:
            self._sobol = Sobol(len(self._axes), rng=self._seed(-1))
        if draw > self._sobol.num_generated:
            self._sobol.fast_forward(draw - self._sobol.num_generated)
        return [float(x) for x in self._sobol.random(1)[0]]

    def _params_at(self, point: list[float]) -> Params:
        """Map a point of the unit cube to values of the axes."""
        params: Params = {}
        fractions = dict(zip(self._axes, point, strict=True))
        for key, axis in in_order(self._axes):
            if applies(axis, self._axes, params):
                params[key] = _value_at(axis, fractions[key])
        return params


class _OptunaStudy:
    """Optuna study that replays the events of a cell.

    Optuna takes only one result per trial. If a second one comes, because a config that waited went
    on, the study is rebuilt from the latest results.
    """

    def __init__(self, sampler: str, axes: Mapping[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sampler = sampler
        self._axes = axes
        self._study = _new_study()
        self._replayed = 0
        # Suggestion -> number of its trial in the study; suggestions that have a result.
        self._trials: list[int] = []
        self._ended: set[int] = set()
        self._open: int | None = None

    def replay(self, events: list[Draw | SuggestionResult], params: list[Params]) -> None:
        """Bring the study up to date with all `events`; `params` are the suggestions' values."""
        # Results arrive while a suggestion is made ahead: those count from the next one on.
        until = len(events)
        new = events[self._replayed : until]
        numbers = [event.number for event in new if isinstance(event, SuggestionResult)]
        repeated = len(set(numbers)) < len(numbers) or not self._ended.isdisjoint(numbers)
        # cmaes keeps its state in the trials that it asked for: it is told only final results.
        if repeated and self._sampler != "cmaes":
            self._rebuild(events[:until], params)
        else:
            for event in new:
                if isinstance(event, SuggestionResult):
                    self._tell(event)
                else:
                    self._use_draw(event, params)
        self._replayed = until

    def ask(self, seed: int) -> Params:
        """Ask a sampler with this seed for a point."""
        self._study.sampler = _sampler(self._sampler, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that Optuna calls experimental
            trial = self._study.ask()
            self._open = trial.number
            return self._suggest(trial)

    def _use_draw(self, draw: Draw, params: list[Params]) -> None:
        """Take, skip or replace the trial that was asked for."""
        import optuna

        if self._open is None and self._sampler == "cmaes":  # from the results folder
            self.ask(draw.seed)
        asked, self._open = self._open, None
        if draw.use == "taken" and asked is not None:
            self._trials.append(asked)
            return
        if asked is not None:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        if draw.use != "skipped":
            self._study.add_trial(self._frozen(params[len(self._trials)], None))
            self._trials.append(len(self._study.get_trials(deepcopy=False)) - 1)

    def _tell(self, result: SuggestionResult) -> None:
        """Tell Optuna a result."""
        import optuna

        number = self._trials[result.number]
        if self._sampler == "cmaes" and (result.number in self._ended or result.state == "pruned"):
            return
        self._ended.add(result.number)
        if result.state == "complete":
            self._study.tell(number, result.score)
        elif result.state == "failed":
            self._study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            frozen = self._study.get_trials(deepcopy=False)[number]
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            trial.report(result.score, result.epoch or 0)
            self._study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def _rebuild(self, events: list[Draw | SuggestionResult], params: list[Params]) -> None:
        """Make the study anew with each suggestion's latest result."""
        latest = {event.number: event for event in events if isinstance(event, SuggestionResult)}
        self._study = _new_study()
        self._study.add_trials([self._frozen(p, latest.get(n)) for n, p in enumerate(params)])
        self._trials = list(range(len(params)))
        self._ended = set(latest)
        self._open = None

    def _frozen(self, params: Params, result: SuggestionResult | None) -> optuna.trial.FrozenTrial:
        """Make an Optuna trial with these values and this result."""
        import optuna
        from optuna.trial import TrialState

        states = {
            None: TrialState.RUNNING,
            "complete": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        pruned = result is not None and result.state == "pruned"
        return optuna.trial.create_trial(
            state=states[result.state if result else None],
            value=result.score if result and result.state == "complete" else None,
            params={key: _encode(self._axes[key], value) for key, value in params.items()},
            distributions={key: _distribution(self._axes[key]) for key in params},
            intermediate_values={result.epoch or 0: result.score} if result and pruned else None,
        )

    def _suggest(self, trial: optuna.Trial) -> Params:
        """Ask an Optuna trial for the values of the axes that apply."""
        params: Params = {}
        for key, axis in in_order(self._axes):
            if applies(axis, self._axes, params):
                params[key] = _suggest_value(trial, key, axis)
        return params


def _value_at(axis: Any, x: float) -> Any:
    """Return the value at the fraction `x`, in [0, 1), of an axis."""
    if isinstance(axis, Choice):
        return axis.values[int(x * len(axis.values))]
    if isinstance(axis, IntRange):
        return axis.low + int(x * (axis.high - axis.low + 1))
    if isinstance(axis, LogUniform):
        low, high = math.log(axis.low), math.log(axis.high)
        return min(max(math.exp(low + x * (high - low)), axis.low), axis.high)
    return axis.low + x * (axis.high - axis.low)


def _new_study() -> optuna.Study:
    import optuna

    # The sampler is replaced before every ask.
    return optuna.create_study(direction="maximize", sampler=_sampler("random", 0))


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Make a sampler; all arguments that matter are given, so that no Optuna default counts."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that Optuna calls experimental
        if name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if name == "gp":
            return optuna.samplers.GPSampler(
                seed=seed,
                n_startup_trials=STARTUP_TRIALS[name],
                deterministic_objective=False,
            )
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(
                seed=seed,
                n_startup_trials=STARTUP_TRIALS[name],
                warn_independent_sampling=False,
            )
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS["tpe"],
            n_ei_candidates=24,
            multivariate=True,
            constant_liar=True,
        )


def _distribution(axis: Any) -> optuna.distributions.BaseDistribution:
    """Return an axis as an Optuna distribution."""
    import optuna.distributions as known

    if isinstance(axis, Choice):
        return known.CategoricalDistribution([json.dumps(value) for value in axis.values])
    if isinstance(axis, IntRange):
        return known.IntDistribution(axis.low, axis.high)
    return known.FloatDistribution(axis.low, axis.high, log=isinstance(axis, LogUniform))


def _suggest_value(trial: optuna.Trial, key: str, axis: Any) -> Any:
    if isinstance(axis, Choice):
        # As JSON, because Optuna stores no lists or mappings.
        return json.loads(trial.suggest_categorical(key, [json.dumps(v) for v in axis.values]))
    if isinstance(axis, IntRange):
        return trial.suggest_int(key, axis.low, axis.high)
    return trial.suggest_float(key, axis.low, axis.high, log=isinstance(axis, LogUniform))


def _encode(axis: Any, value: Any) -> Any:
    return json.dumps(value) if isinstance(axis, Choice) else value
