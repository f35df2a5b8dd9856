"""Signatures of the user's optimizers and trials of the user's schedules, for the plan.

The user's code runs in a process of its own, which it may change, hang or end.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cnncore.error_text import error_line, own_line, printable
from cnncore.fresh_process import fresh_process
from cnncore.functions import import_function

# Seconds after which the user's code is taken to hang.
HANG_S = 60.0
# Lengths of training at which a schedule is asked for the factor of every step.
TRIED_STEPS = (1, 2, 10, 1000)


@dataclass(frozen=True)
class Signature:
    """Parameters of an optimizer beside the weights and `lr`, or the problem with it.

    `defaults` has those with a default that JSON can hold. `any_name` is true if it takes options
    of any name, `modes` if it has `train()` and `eval()`.
    """

    parameters: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    any_name: bool = False
    modes: bool = False
    problem: str | None = None


def read_signatures(optimizers: Sequence[str], schedules: Sequence[str]) -> dict[str, Signature]:
    """Return the signature of each optimizer, and for each schedule one with its problem alone.

    Names whose process ended or hung have that as their problem.
    """
    if not (names := [*dict.fromkeys([*optimizers, *schedules])]):
        return {}
    found: dict[str, Signature] = {}
    while left := [name for name in names if name not in found]:
        requests = {name: "optimizer" if name in optimizers else "schedule" for name in left}
        answers, end = _ask(requests)
        found.update(answers)
        if len(answers) < len(left):  # the next one ended the process
            found[left[len(answers)]] = Signature(problem=end)
    return found


def _ask(requests: dict[str, str]) -> tuple[dict[str, Signature], str]:
    """Ask a process; return its answers, and how it ended before the rest."""
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as errors:
        command = fresh_process(f"{__name__}:answer", str(answers.fileno()))
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[answers.fileno()],
            start_new_session=True,
        )
        try:
            process.communicate(json.dumps(requests).encode(), timeout=HANG_S)
            code = process.returncode
            end = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            end = f"its code ended the process with {end}"
        except subprocess.TimeoutExpired:
            end = f"its code gave no answer within {HANG_S:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        answers.seek(0)
        lines = answers.read().decode().split("\n")[:-1]
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    found = {}
    for line in lines:
        name, values = json.loads(line)
        values.update({key: tuple(values[key]) for key in ("parameters", "required")})
        found[name] = Signature(**values)
    return found, f"{end}: {printable(said[-1])[:300]}" if said else end


def answer(descriptor: str) -> None:
    """Answer the requests on standard input, a line of JSON each to a file by its descriptor."""
    for name, kind in json.load(sys.stdin).items():
        try:
            found = _optimizer(name) if kind == "optimizer" else _schedule(name)
        except BaseException as error:  # `sys.exit` too: it is the user's own
            place = own_line(error)
            ours = place is None and isinstance(error, ValueError)
            text = str(error).removeprefix(f"{name}: ") if ours else error_line(error)
            found = Signature(problem=f"{text} ({place})" if place else text)
        os.write(int(descriptor), json.dumps([name, asdict(found)]).encode() + b"\n")


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


def _schedule(name: str) -> Signature:
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
    return Signature()
