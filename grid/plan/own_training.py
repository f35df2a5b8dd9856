"""The user's own optimizers and schedules in a plan: asked for in a process of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cnncore.config import OPTIMIZERS, TrialConfig, own_training_names
from cnncore.config.optimizers import OPTIMIZER_KEYS, refuse_options
from cnncore.training.own_signatures import Signature
from grid.code.sweep_code import SweepCode
from grid.sweep.axes import Choice
from grid.sweep.config_keys import check_value
from grid.sweep.spec import SweepSpec

# How a name under a key is asked for.
CHECKS = {"optimizer": "signature", "schedule": "schedule"}


class OwnTraining:
    """Signatures of the user's optimizers, and the problems of their schedules."""

    def __init__(self, spec: SweepSpec, settings: Mapping[str, Any], code: SweepCode) -> None:
        self._spec, self._settings, self._code = spec, settings, code
        # The answer for each optimizer and schedule.
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}

    def problem(self, config: TrialConfig) -> tuple[str, str] | None:
        """Return the key and text of a problem of a config's own optimizer or schedule."""
        for name in own_training_names(config):
            key = "optimizer" if name == config.optimizer else "schedule"
            if problem := self._answer(key, name)["problem"]:
                return key, problem if problem.startswith(name) else f"{name}: {problem}"
        return None

    def signature(self, optimizer: str) -> Signature:
        """Return the signature of an optimizer of the user's without a problem."""
        found = self._answer("optimizer", optimizer)["signature"]
        names = {key: tuple(found[key]) for key in ("parameters", "required")}
        return Signature(**{**found, **names})

    def _answer(self, key: str, name: str) -> dict[str, Any]:
        """Return what is known of a name of the user's; one process answers for all."""
        if (key, name) not in self._answers:
            asked = {(k, v): None for k in CHECKS for v in self._values(k) if ":" in v}
            new = [one for one in {**asked, (key, name): None} if one not in self._answers]
            requests = [{"check": CHECKS[k], k: value} for k, value in new]
            self._answers.update(zip(new, self._code.answers(requests), strict=True))
        return self._answers[key, name]

    def _values(self, key: str) -> Iterator[str]:
        """Yield the texts that a sweep gives a key anywhere."""
        axis = self._spec.tune.axes.get(key) if self._spec.tune else None
        yield from (v for v in self._spec.compare.get(key, ()) if isinstance(v, str))
        yield from (
            v for v in (axis.values if isinstance(axis, Choice) else ()) if isinstance(v, str)
        )
        sections = [self._spec.fixed, self._settings, *(rule.set for rule in self._spec.rules)]
        yield from (s[key] for s in sections if isinstance(s.get(key), str))


def own_keys(config: TrialConfig, signature: Signature) -> dict[str, Any]:
    """Return the changed keys of a config whose optimizer has this signature.

    Keys without a meaning for it become null, others get its defaults, and options that equal the
    default are left out. Raises pydantic's `ValidationError` for options that it does not have and
    `KeyProblem` for other conflicts.
    """
    options = config.optimizer_options or {}
    names = [name for name in signature.parameters if name not in OPTIMIZER_KEYS]
    refuse_options(config.optimizer, options, None if signature.any_name else names)
    update: dict[str, Any] = {"momentum_form": None}
    for key in OPTIMIZER_KEYS:
        if key not in signature.parameters and not signature.any_name:
            update[key] = None
        elif key != "momentum_form" and getattr(config, key) is None:
            value, problems = check_value(key, signature.defaults.get(key))
            update[key] = None if problems else value
    differ = {
        name: value
        for name, value in options.items()
        if name not in signature.defaults or _differ(value, signature.defaults[name])
    }
    update["optimizer_options"] = differ or None
    resolved = {key: update.get(key, getattr(config, key)) for key in OPTIMIZER_KEYS}
    missing = [name for name in signature.required if options.get(name, resolved.get(name)) is None]
    if missing:
        where = [
            "beside it" if name in OPTIMIZER_KEYS else "under optimizer_options" for name in missing
        ]
        raise KeyProblem(
            "optimizer", f"{config.optimizer} also needs {missing[0]}: give it {where[0]}"
        )
    no_decay = "weight_decay" not in signature.parameters or resolved["weight_decay"] == 0
    if no_decay and not (signature.any_name and resolved["weight_decay"]):
        update["decay_norm_bias"] = None
    if config.ema is not None and signature.modes:
        raise KeyProblem(
            "ema",
            f"{config.optimizer} averages the weights itself (it has train() and eval()), so ema "
            "would average an average; leave ema out",
        )
    return update


class KeyProblem(Exception):
    """Conflict of a key of a config with its optimizer."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def _differ(value: Any, default: Any) -> bool:
    """Check whether a value differs from a default; 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(value, bool) or isinstance(default, bool):
        return json.dumps(value) != json.dumps(default)
    return bool(value != default)


def is_own(optimizer: str) -> bool:
    """Check whether an optimizer is of the user's own."""
    return optimizer not in OPTIMIZERS
