"""Single options as axes and settings: `optimizer_options.alpha`, `arch_options.NAME`."""

from types import SimpleNamespace
from typing import Any

import pytest

from cnncore.config import TrialConfig
from grid.errors import SweepError
from grid.plan.plan import expand_sweep
from grid.plan.resolve import Resolver
from grid.sweep.config_keys import option_keys
from grid.sweep.load import parse_changes, parse_sweep

FACTS = SimpleNamespace(image_size=8, class_count=10, fingerprint=None, validation=0)
FIXED = "fixed: {arch: cnn3, dataset: digits, image_size: 32, lr: 0.1, epochs: 2"
COMPARE = "compare: {optimizer: [sgd, rmsprop]"
WHEN = "{uniform: [0.8, 0.99], when: {optimizer: rmsprop}}"


def plan(text: str, *changes: str) -> Any:
    spec = parse_sweep(f"sweep: s\n{text}\n", "a.yaml")
    return expand_sweep(spec, lambda name, size: FACTS, parse_changes(changes, spec))


def options(text: str, *changes: str) -> list[Any]:
    return [trial.config.optimizer_options for trial in plan(text, *changes).trials]


def tuned(axis: str) -> str:
    return f"tune: {{trials: 3, sampler: random, axes: {{{axis}}}}}"


def test_every_key_of_options_takes_single_ones() -> None:
    dictionaries = {k for k, v in TrialConfig.model_fields.items() if "dict" in str(v.annotation)}
    assert set(option_keys()) == dictionaries - {"class_weights"}  # classes are no options
    assert {"arch_options", "optimizer_options"} <= dictionaries


def test_fixed_rules_axes_and_changes_each_set_a_single_option() -> None:
    compared = f"compare: {{optimizer: [rmsprop], optimizer_options.alpha: [0.9, 0.95]}}\n{FIXED}"
    assert options(f"{compared}}}") == [{"alpha": 0.9}, {"alpha": 0.95}]
    both = f"{compared}, optimizer_options: {{eps: 1e-5}}}}"
    assert options(both) == [{"eps": 1e-5, "alpha": 0.9}, {"eps": 1e-5, "alpha": 0.95}]
    assert options(both, "optimizer_options.centered=true")[0] == {
        "eps": 1e-5,
        "alpha": 0.9,
        "centered": True,
    }
    ruled = f"{COMPARE}}}\n{FIXED}}}\nrules:\n  - {{when: {{optimizer: rmsprop}}, set: "
    assert options(f"{ruled}{{optimizer_options.alpha: 0.9}}}}") == [None, {"alpha": 0.9}]
    null = f"compare: {{optimizer: [rmsprop], optimizer_options.eps: [null, 1e-5]}}\n{FIXED}}}"
    assert options(null) == [None, {"eps": 1e-5}]
    own = f"compare: {{arch: ['nets:tiny'], arch_options.depth: [1, 2]}}\n{FIXED}".replace(
        "arch: cnn3", "optimizer: sgd"
    )
    spec = parse_sweep(f"sweep: s\n{own}}}\n")
    merged = Resolver(spec, {}, lambda name, size: FACTS)._merged(spec.combinations()[1])
    assert merged["arch_options"] == {"depth": 2}


def test_a_tuned_option_exists_only_when_its_optimizer_does() -> None:
    made = plan(f"{COMPARE}}}\n{FIXED}}}\n{tuned(f'optimizer_options.alpha: {WHEN}')}")
    resolve = made.resolver.resolve
    assert resolve({"optimizer": "sgd"}).optimizer_options is None
    values = {"optimizer": "rmsprop", "optimizer_options.alpha": 0.85}
    assert resolve(values).optimizer_options == {"alpha": 0.85}


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        (
            f"{COMPARE}}}\n{FIXED}}}\n{tuned('optimizer_options.alpha: {uniform: [0.8, 0.9]}')}",
            [],
            r"a\.yaml:4: tune\.axes\.optimizer_options\.alpha: sgd has no option 'alpha'; its "
            r"options: dampening; give the axis `when: \{optimizer: rmsprop\}`",
        ),
        (
            f"{COMPARE}}}\n{FIXED}, optimizer_options: {{alpha: 0.9}}}}",
            [],
            r"a\.yaml:3: fixed\.optimizer_options: alpha: sgd has no option .* by a rule, `when:",
        ),
        (
            f"{COMPARE}}}\n{FIXED}}}\n{tuned(f'optimizer_options.alpha: {WHEN}')}".replace(
                "0.99", "1.5"
            ),
            [],
            r"optimizer_options\.alpha: input should be less than 1, but got 1\.5",
        ),
        (
            f"{COMPARE}}}\n{FIXED}, optimizer_options: {{alpha: 0.9}}}}\n"
            + tuned(f"optimizer_options.alpha: {WHEN}"),
            [],
            r"fixed\.optimizer_options\.alpha: is also tuned; give it in one place",
        ),
        (
            "compare: {optimizer_options: [{eps: 1}, {}], optimizer: [rmsprop]}\n"
            f"{FIXED}, optimizer_options.alpha: 0.9}}",
            [],
            r"optimizer_options is compared as a whole",
        ),
        (
            "compare: {optimizer_options: [{eps: 1}, {}], optimizer_options.eps: [1, 2]}\n"
            f"{FIXED}, optimizer: rmsprop}}",
            [],
            r"compare\.optimizer_options\.eps: is also set by optimizer_options",
        ),
        (
            f"compare: {{optimizer_options.eps: [1, 2]}}\n{FIXED}, optimizer: rmsprop}}",
            ["optimizer_options={alpha: 0.5}"],
            r"optimizer_options\.eps is compared in a\.yaml; change it in the file",
        ),
        (
            f"compare: {{optimizer_option.eps: [1, 2]}}\n{FIXED}, optimizer: rmsprop}}",
            [],
            r"unknown key 'optimizer_option\.eps' \(closest: optimizer_options\)",
        ),
        (
            f"compare: {{schedule.final: [1, 2]}}\n{FIXED}, optimizer: rmsprop}}",
            [],
            r"unknown key 'schedule\.final'",
        ),
        (
            f"compare: {{arch_options.x: [1, 2]}}\n{FIXED}, optimizer: rmsprop}}",
            [],
            r"a\.yaml:2: compare\.arch_options\.x: cnn3 does not take x",
        ),
    ],
)
def test_an_option_in_the_wrong_place_is_refused_with_its_line(
    text: str, changes: list[str], expected: str
) -> None:
    with pytest.raises(SweepError, match=expected):
        plan(text, *changes)
