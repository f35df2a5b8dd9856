"""Sweep file as frozen models."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from cnncore.config import (
    ConfigPart,
    Count,
    Epochs,
    NonNegativeFloat,
    PositiveFloat,
    Real,
    Seed,
    Whole,
)
from cnncore.config.objective import check_metric
from grid.sweep.axes import TunedAxis
from grid.sweep.plain_values import plain_value
from grid.sweep.yaml_source import Source

# A sweep's name becomes a folder's name.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
CountFrom2 = Annotated[Whole, Field(ge=2, le=1_000_000_000)]


class Section(ConfigPart):
    """Part of the sweep file; unknown keys are errors."""

    @model_validator(mode="before")
    @classmethod
    def _convert(cls, data: Any) -> Any:
        """Convert what only Python can give, such as NumPy's numbers."""
        return plain_value(data)


class Confirm(Section):
    """Confirmation: the `top` configs of each cell are trained again, with `seeds` fresh seeds."""

    top: Count = 1
    seeds: Count


class Drop(Section):
    """A config that clearly loses after its first seeds is not trained with the others.

    Once `after` of its seeds are complete, and after each further one, it is compared with the best
    config of the cell over the seeds both have: it is dropped if a paired one-sided t test says
    with `p` or less that it is worse.
    """

    after: CountFrom2 = 2
    p: Annotated[Real, Field(gt=0.0, lt=0.5)] = 0.1


class Tune(Section):
    """Search inside each cell: `trials` different configs, as many in every cell."""

    trials: Count
    sampler: Literal["tpe", "random", "gp", "cmaes", "qmc"] = "tpe"
    seed: Seed = 0
    axes: Annotated[dict[str, TunedAxis], Field(min_length=1)]
    drop: Drop | None = None
    confirm: Confirm | None = None


class StopRule(Section):
    """Rule by which configs of a cell are stopped early; `grid/search/stopping.py` applies it.

    A new rule is a subclass, a field of `Stop`, and its class in the table `CELL_RULES` there.
    """

    # The key that gives the epoch after which configs are compared for the first time.
    first_comparison_key: ClassVar[str] = "grace_epochs"

    @property
    def first_comparison(self) -> int:
        """Epoch after which configs are compared for the first time."""
        epoch: int = getattr(self, self.first_comparison_key)
        return epoch


class Asha(StopRule):
    """Asynchronous successive halving (arXiv 1810.05934) among the configs of one cell.

    Configs are compared after epoch `grace_epochs`, `grace_epochs * reduction`, ...; at each, the
    best 1/`reduction` of those that came there so far go on. The others wait with a checkpoint,
    and go on as soon as they are among the best.
    """

    grace_epochs: Epochs = 1
    reduction: CountFrom2 = 3


class Halving(StopRule):
    """Successive halving (arXiv 1502.07943) among the configs of one cell.

    After epoch `grace_epochs`, `grace_epochs * reduction`, ..., `rungs` times at most, configs wait
    until all of the cell came there; then the best 1/`reduction` of them, rounded up, go on. It
    trains fewer epochs than `asha`, which goes on at once with what looks good so far.

    With `gap` the remaining configs are compared again after every multiple of the last rung: a
    config more than `gap`, in the objective's unit (a fraction of top-1), behind the cell's best at
    that epoch stops there.
    """

    grace_epochs: Epochs = 1
    reduction: CountFrom2 = 3
    rungs: Count | None = None
    gap: PositiveFloat | None = None


class Hyperband(StopRule):
    """Successive halving that starts at several grace periods (arXiv 1603.06560), asynchronous.

    The brackets begin to compare after `grace_epochs`, `grace_epochs * reduction`, ... epochs, the
    last trains to the end; each gets as many configs as fit the same number of epochs.
    """

    grace_epochs: Epochs = 1
    reduction: CountFrom2 = 3


class Median(StopRule):
    """Median rule of Google Vizier (2017).

    From epoch `grace_epochs` on a config ends if its best value so far is below the median of
    the other configs' means up to this epoch, once `min_configs` of them came so far.
    """

    grace_epochs: Epochs = 1
    min_configs: Count = 5


class FirstEpochs(StopRule):
    """All configs are trained for `epochs` epochs, then the best `keep` of the cell to the end."""

    first_comparison_key = "epochs"

    epochs: Epochs = 1
    keep: Count = 1


class Stop(Section):
    """Early stopping of a cell's configs by one of these rules."""

    asha: Asha | None = None
    halving: Halving | None = None
    hyperband: Hyperband | None = None
    median: Median | None = None
    first_epochs: FirstEpochs | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name, rule in self if rule is not None]
        if len(given) != 1:
            known = ", ".join(Stop.model_fields)
            raise ValueError(f"give one of {known}, but got {' and '.join(given) or 'none'}")
        return self

    @property
    def name(self) -> str:
        """Name of the rule in the sweep file."""
        return next(name for name, rule in self if rule is not None)

    @property
    def rule(self) -> StopRule:
        """Rule that the sweep file gives."""
        rule: StopRule = getattr(self, self.name)
        return rule


class Rule(Section):
    """Settings for the combinations for which `when` holds; later rules win."""

    when: dict[str, Any]
    set: dict[str, Any]


# The least share of a GPU: each process holds some hundred MiB of its own there.
LEAST_SHARE = 0.01


def check_share(share: float) -> float:
    """Return a share of a GPU. Raises `ValueError` if a trial could not use it."""
    if share and not LEAST_SHARE <= share <= 1:
        raise ValueError(
            "a trial trains on one GPU or a share of one, never on several: give auto, 0, or a "
            f"share from {LEAST_SHARE:g} to 1, but got {share:.10g}"
        )
    return share


class Resources(Section):
    """Resources of one trial: CPU threads, and a GPU, a share of one, or none (0)."""

    cpus: Annotated[Whole, Field(gt=0, le=10_000)] = 1
    gpus: Literal["auto"] | Annotated[NonNegativeFloat, AfterValidator(check_share)] = "auto"

    @property
    def trials_per_gpu(self) -> int:
        """Trials at a time on one GPU, if they use it: none is spread over two."""
        share = self.gpus if self.gpus != "auto" else 1.0
        # 1 / 0.07 and the like must not come out a little below a whole number.
        return int(1 / share + 1e-9) if share else 1


class Top(Section):
    """Best weights of the `top` complete trials of each cell that are best by the objective."""

    top: Count


Kept = Literal["none", "last", "best"]


def _keep_form(value: Any) -> str:
    """Return the tag of the form in which `keep` is written."""
    return "keep_top" if isinstance(value, (Mapping, Top)) or value == "top" else "keep_name"


class SweepSpec(Section):
    """Whole sweep file."""

    sweep: Annotated[str, Field(pattern=NAME_PATTERN)]
    compare: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)
    ]
    tune: Tune | None = None
    fixed: dict[str, Any] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    folds: CountFrom2 | None = None
    stop: Stop | None = None
    resources: Resources = Resources()
    keep: Annotated[
        Annotated[Kept, Tag("keep_name")] | Annotated[Top, Tag("keep_top")],
        Discriminator(_keep_form),
    ] = "best"
    # Metrics of predictions beside the usual ones; they change no trial, so they are in no id.
    metrics: tuple[Annotated[str, AfterValidator(check_metric)], ...] = ()
    keep_predictions: Literal["all", "confirmed", "none"] = "all"
    checkpoint_s: Annotated[PositiveFloat, Field(le=1e9)] = 30.0
    # The most that the results folder may take.
    disk_gib: Annotated[PositiveFloat, Field(le=1e9)] | None = None
    # A trial whose process dies this often fails.
    max_attempts: Count = 3
    # A trial that gives no sign of life for this long is killed; 0 is never.
    hung_after_s: Annotated[NonNegativeFloat, Field(le=1e9)] = 600.0

    _source: Source = PrivateAttr(default=Source("sweep", ""))

    @property
    def source(self) -> Source:
        """File that the sweep was read from."""
        return self._source

    @property
    def keep_at_end(self) -> Kept:
        """Weights that a trial itself keeps; for `top` the driver then removes all but the best."""
        return "best" if isinstance(self.keep, Top) else self.keep

    @property
    def keep_top(self) -> int | None:
        """Count of trials of a cell that keep their weights; None if all complete ones do."""
        return self.keep.top if isinstance(self.keep, Top) else None

    @property
    def text(self) -> str:
        """The user's own file, or JSON, which is YAML too, of a sweep made in Python."""
        return self._source.text or self.model_dump_json(indent=2)

    def combinations(self) -> list[dict[str, Any]]:
        """Return every combination of the compared axes' values, excluded ones too."""
        return [
            dict(zip(self.compare, values, strict=True))
            for values in itertools.product(*self.compare.values())
        ]

    def axis_keys(self) -> tuple[str, ...]:
        """Return the keys that differ between trials: compared and tuned."""
        return (*self.compare, *(self.tune.axes if self.tune else ()))


# Random suggestions before a model takes over (Optuna's defaults, stated here).
STARTUP_TRIALS = {"tpe": 10, "gp": 10, "cmaes": 1}
