"""One Optuna study per tuned cell: where the next suggestion lies.

Draw d of a cell comes from a sampler made for it alone, seeded by the sweep, the cell and d, over
what was told before it in the order of telling. So a study that is given the same draws and the
same events again goes on as the first one would.
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

# Samplers whose suggestions take time, and can be made before the last trials ended.
AHEAD = ("tpe", "gp")
# Samplers whose suggestions follow from nothing that was told.
BLIND = ("random", "qmc")


@dataclass(frozen=True)
class Told:
    """What a study knows of a suggestion: `complete` with its mean value, `pruned` with the value
    after `epoch` epochs (it may still go on), or `failed`.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    value: float | None = None
    epoch: int | None = None

    def as_list(self) -> list[Any]:
        """As JSON has it."""
        return [self.number, self.state, self.value, self.epoch]


@dataclass(frozen=True)
class Drawn:
    """What became of a draw: it is the next suggestion (`take`), it is not used (`leave`), or
    another point has its place (`place`).
    """

    fate: Literal["take", "leave", "place"]
    seed: int


class CellStudy:
    """The suggestions of one cell, numbered from 0, and what was told of them.

    Optuna is imported, and made to know what happened, by the first `ask` that needs it.
    """

    def __init__(self, tune: Tune, axes: Mapping[str, Any], cell_id: str) -> None:
        self._tune = tune
        self._axes = dict(axes)
        self._cell_id = cell_id
        self._params: list[Params] = []
        self._told: dict[int, Told] = {}
        self._events: list[Drawn | Told] = []
        self._optuna: _OptunaStudy | None = None
        self._sobol: Any = None

    def ask(self, draw: int) -> Params:
        """Values of a draw, by axis; axes whose `when` fails are left out.

        `take` or `leave` must follow.
        """
        if self._tune.sampler == "qmc":
            return self._place(self._point(draw))
        if self._optuna is None:
            self._optuna = _OptunaStudy(self._tune.sampler, self._axes)
        self._optuna.follow(self._events, self._params)
        return self._optuna.ask(self._seed(draw))

    def take(self, draw: int, params: Params, *, own: bool = True) -> None:
        """A draw becomes the next suggestion; not its `own` point but `params` where said so."""
        self._events.append(Drawn("take" if own else "place", self._seed(draw)))
        self._params.append(params)

    def leave(self, draw: int) -> None:
        """A draw is not used, because the cell has its point."""
        self._events.append(Drawn("leave", self._seed(draw)))

    def tell(self, told: Told) -> None:
        """A suggestion ended or waits; what was told of it earlier no longer counts."""
        self._told[told.number] = told
        if self._tune.sampler not in BLIND:
            self._events.append(told)

    def random_point(self, draw: int) -> Params:
        """A point at random, whatever was told."""
        sampler = _OptunaStudy("random", self._axes)
        return sampler.ask(self._seed(draw))

    def _seed(self, draw: int) -> int:
        text = f"{self._tune.seed}:{self._cell_id}:{draw}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])

    def _point(self, draw: int) -> list[float]:
        """Point `draw` of the cell's scrambled Sobol sequence, a number in [0, 1) per axis."""
        from scipy.stats.qmc import Sobol

        if self._sobol is None:
            self._sobol = Sobol(len(self._axes), rng=self._seed(-1))
        if draw > self._sobol.num_generated:
            self._sobol.fast_forward(draw - self._sobol.num_generated)
        return [float(x) for x in self._sobol.random(1)[0]]

    def _place(self, point: list[float]) -> Params:
        params: Params = {}
        at = dict(zip(self._axes, point, strict=True))
        for key, axis in in_order(self._axes):
            if applies(axis, self._axes, params):
                params[key] = _at(axis, at[key])
        return params


class _OptunaStudy:
    """An Optuna study that follows the events of a cell.

    Optuna takes no second result of a trial. Where one comes, because a config that waited went on,
    the study is made anew from what is known.
    """

    def __init__(self, sampler: str, axes: Mapping[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sampler = sampler
        self._axes = axes
        self._study = _new_study()
        self._followed = 0
        # Suggestion -> number of its trial in the study, and which of those have a result.
        self._trials: list[int] = []
        self._ended: set[int] = set()
        self._open: int | None = None

    def follow(self, events: list[Drawn | Told], params: list[Params]) -> None:
        """Bring the study to the end of `events`."""
        # Ends are told while a suggestion is made ahead: those count from the next one on.
        until = len(events)
        new = events[self._followed : until]
        told = [event.number for event in new if isinstance(event, Told)]
        again = len(set(told)) < len(told) or not self._ended.isdisjoint(told)
        # cmaes keeps its state in the trials that it asked for: it hears of ends alone, once.
        if again and self._sampler != "cmaes":
            self._rebuild(events[:until], params)
        else:
            for event in new:
                if isinstance(event, Told):
                    self._tell(event)
                else:
                    self._drawn(event, params)
        self._followed = until

    def ask(self, seed: int) -> Params:
        self._study.sampler = _sampler(self._sampler, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that Optuna calls experimental
            trial = self._study.ask()
            self._open = trial.number
            return self._suggest(trial)

    def _drawn(self, event: Drawn, params: list[Params]) -> None:
        import optuna

        if self._open is None and self._sampler == "cmaes":  # from the results folder
            self.ask(event.seed)
        asked, self._open = self._open, None
        if event.fate == "take" and asked is not None:
            self._trials.append(asked)
            return
        if asked is not None:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        if event.fate != "leave":
            self._study.add_trial(self._frozen(params[len(self._trials)], None))
            self._trials.append(len(self._study.get_trials(deepcopy=False)) - 1)

    def _tell(self, told: Told) -> None:
        import optuna

        number = self._trials[told.number]
        if self._sampler == "cmaes" and (told.number in self._ended or told.state == "pruned"):
            return
        self._ended.add(told.number)
        if told.state == "complete":
            self._study.tell(number, told.value)
        elif told.state == "failed":
            self._study.tell(number, state=optuna.trial.TrialState.FAIL)
        else:
            frozen = self._study.get_trials(deepcopy=False)[number]
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            trial.report(told.value or 0.0, told.epoch or 0)
            self._study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def _rebuild(self, events: list[Drawn | Told], params: list[Params]) -> None:
        latest = {event.number: event for event in events if isinstance(event, Told)}
        self._study = _new_study()
        self._study.add_trials([self._frozen(p, latest.get(n)) for n, p in enumerate(params)])
        self._trials = list(range(len(params)))
        self._ended = set(latest)
        self._open = None

    def _frozen(self, params: Params, told: Told | None) -> optuna.trial.FrozenTrial:
        import optuna
        from optuna.trial import TrialState

        states = {
            None: TrialState.RUNNING,
            "complete": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        pruned = told is not None and told.state == "pruned"
        return optuna.trial.create_trial(
            state=states[told.state if told else None],
            value=told.value if told and told.state == "complete" else None,
            params={key: _encode(self._axes[key], value) for key, value in params.items()},
            distributions={key: _distribution(self._axes[key]) for key in params},
            intermediate_values={told.epoch or 0: told.value or 0.0} if told and pruned else None,
        )

    def _suggest(self, trial: optuna.Trial) -> Params:
        params: Params = {}
        for key, axis in in_order(self._axes):
            if applies(axis, self._axes, params):
                params[key] = _suggest_value(trial, key, axis)
        return params


def _at(axis: Any, x: float) -> Any:
    """The value at `x`, a number in [0, 1), of the way through an axis."""
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
    """A sampler with every argument that matters given, so that a version's defaults do not."""
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
