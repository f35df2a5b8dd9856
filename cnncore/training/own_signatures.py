"""Signatures of the user's optimizers and trials of the user's schedules, for the plan."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from cnncore.error_text import error_line, own_line
from cnncore.functions import import_function

# Lengths of training at which a schedule is asked for the factor of every step.
TRIED_STEPS = (1, 2, 10, 1000)


@dataclass(frozen=True)
class Signature:
    """Parameters of an optimizer beside the weights and `lr`.

    `defaults` has those with a default that JSON can hold. `any_name` is true if it takes options
    of any name, `modes` if it has `train()` and `eval()`.
    """

    parameters: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    any_name: bool = False
    modes: bool = False


def try_signature(optimizer: str) -> dict[str, Any]:
    """Read an optimizer's signature; return it, with its `problem`, or None."""
    return _answer(optimizer, lambda: {"signature": asdict(_optimizer(optimizer))})


def try_schedule(schedule: str) -> dict[str, Any]:
    """Ask a schedule for every step of some lengths; return its `problem`, or None."""
    return _answer(schedule, lambda: _schedule(schedule))


def _answer(name: str, ask: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    problem, found = None, None
    try:
        found = ask()
    except BaseException as error:  # `sys.exit` too: it is the user's own
        place = own_line(error)
        ours = place is None and isinstance(error, ValueError)
        text = str(error).removeprefix(f"{name}: ") if ours else error_line(error)
        problem = f"{text} ({place})" if place else text
    return {"problem": problem, "notes": [], "tried": True, **(found or {})}


def _optimizer(name: str) -> Signature:
    """Read an optimizer's signature. Raises `ValueError` if no trial could use it."""
    made: Callable[..., Any] = import_function(name)
    try:
        _, *parameters = inspect.signature(made).parameters.values()
    except ValueError:
        raise ValueError(f"{name}: it must take the weights first, as `params`") from None
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if "lr" not in named and not any_name:
        raise ValueError(f"{name}: it is called with the weights and lr=..., but takes no lr")
    step = getattr(made, "step", None) if inspect.isclass(made) else None
    if step is not None and _needs_closure(step):
        raise ValueError(
            f"{name}: its step needs a closure that computes the loss, and a trial computes it "
            "once a step"
        )
    named.pop("lr", None)
    defaults = {}
    for key, parameter in named.items():
        if parameter.default is not parameter.empty:
            try:
                defaults[key] = json.loads(json.dumps(parameter.default, allow_nan=False))
            except (TypeError, ValueError):
                continue
    return Signature(
        parameters=tuple(named),
        required=tuple(key for key, p in named.items() if p.default is p.empty),
        defaults=defaults,
        any_name=any_name,
        modes=all(callable(getattr(made, mode, None)) for mode in ("train", "eval")),
    )


def _needs_closure(step: Callable[..., Any]) -> bool:
    """Check whether a class's step has a parameter, beside itself, without a default."""
    try:
        _, *parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind < p.VAR_POSITIONAL for p in parameters)


def _schedule(name: str) -> None:
    """Ask a schedule for every step of some lengths. Raises `ValueError` if it is none."""
    from cnncore.training.schedule import own_factor

    for steps in TRIED_STEPS:
        factors = [own_factor(name, step, steps) for step in range(1, steps + 1)]
        for step in sorted({1, (steps + 1) // 2, steps}):
            again = own_factor(name, step, steps)
            if again != factors[step - 1]:
                raise ValueError(
                    f"{name}({step}, {steps}) returned {factors[step - 1]:g} and then {again:g}; "
                    "it must depend on its arguments alone, as a trial may resume at any step"
                )
