"""Bad sweep files: all problems in one message, each with line, place and remedy."""

import re
from typing import Any

import numpy as np
import pytest

from grid.errors import SweepError
from grid.sweep.load import (
    check_changes,
    check_sweep,
    load_sweep,
    parse_changes,
    parse_sweep,
    read_presets,
)
from grid.sweep.spec import SweepSpec

GOOD = """\
sweep: s
compare:
  arch: [cnn3]
  optimizer: [sgd, adam]
tune:
  trials: 4
  axes:
    lr: {log_uniform: [1e-4, 1e-1]}
    momentum: {uniform: [0.8, 0.99], when: {optimizer: sgd}}
fixed:
  dataset: digits
  epochs: 3
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SweepError) as caught:
        parse_sweep(text, "a.yaml")
    return list(caught.value.problems)


def test_a_good_file_is_read_with_types_of_yaml_1_2() -> None:
    spec = parse_sweep(GOOD.replace("sweep: s", "sweep: no"), "a.yaml")
    assert spec.sweep == "no"
    assert spec.tune is not None
    lr = spec.tune.axes["lr"]
    assert (lr.kind, lr.low, lr.high) == ("log_uniform", 1e-4, 1e-1)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sweep: s", "swep: s", "a.yaml:1: swep: unknown key 'swep' (closest: sweep)"),
        ("sweep: s", "sweep: ../s", "a.yaml:1: sweep: a name of letters"),
        ("[cnn3]", "[]", "a.yaml:3: compare.arch: is empty"),
        ("[cnn3]", "[cnn33]", "a.yaml:3: compare.arch[0]: unknown architecture 'cnn33' (closest: "),
        ("[cnn3]", "[cnn3, cnn3]", "a.yaml:3: compare.arch: has a value twice"),
        ("digits", "digitz", "a.yaml:11: fixed.dataset: unknown data set 'digitz' (closest: dig"),
        (
            "adam]",
            "adm]",
            "a.yaml:4: compare.optimizer[1]: unknown optimizer 'adm' (closest: adam)",
        ),
        ("epochs: 3", "epoch: 3", "a.yaml:12: fixed.epoch: unknown key 'epoch' (closest: epochs)"),
        (
            "epochs: 3",
            "epochs: 3\n  keep: last",
            "a.yaml:13: fixed.keep: is a key of the sweep file, not of a config: no indent",
        ),
        ("epochs: 3", "epochs: x", "a.yaml:12: fixed.epochs: input should be a valid integer"),
        ("epochs: 3", "epochs: 0", "a.yaml:12: fixed.epochs: input should be greater than 0"),
        ("epochs: 3", "epochs: true", "a.yaml:12: fixed.epochs: must be a number, but got true"),
        (
            "epochs: 3",
            "epochs: 3\n  schedule: {step: {every: true}}",
            "a.yaml:13: fixed.schedule: every: must be a number, but got true",
        ),
        (
            "[1e-4, 1e-1]",
            "[false, 1]",
            "a.yaml:8: tune.axes.lr.low: must be a number, but got false",
        ),
        ("epochs: 3", "epochs: 1e300", "a.yaml:12: fixed.epochs: "),
        (
            "epochs: 3",
            "epochs: 3\n  batch_size: 9223372036854775808",
            "a.yaml:13: fixed.batch_size: input should be less than or equal to 1000000000",
        ),
        (
            "epochs: 3",
            "epochs: 3\n  arch_options: {1: 2}",
            'a.yaml:13: fixed.arch_options: keys are text, but got 1; write it in quotes: "1"',
        ),
        (
            "epochs: 3",
            "epochs: 3\n  background: [300, 1, 1]",
            "a.yaml:13: fixed.background: [0]: input should be less than or equal to 255",
        ),
        (
            "epochs: 3",
            "epochs: 3\n  ? [1]\n  : 2",
            "a.yaml:10: fixed: keys are text, but got (1,)",
        ),
        (
            "epochs: 3",
            "epochs: 3\n  arch_options: {x: [1, .nan]}",
            "a.yaml:13: fixed.arch_options.x[1]: must be a finite number, but got nan",
        ),
        (
            "{log_uniform: [1e-4, 1e-1]}",
            "[0.1, 1e-1, 0.2]",
            "a.yaml:8: tune.axes.lr: has a value twice, so it would be chosen twice as often",
        ),
        ("trials: 4", "trials: 0", "a.yaml:6: tune.trials: input should be greater than 0"),
        (
            "[1e-4, 1e-1]",
            "[1e-1, 1e-4]",
            "a.yaml:8: tune.axes.lr: low <= high must hold, but got low=0.1, high=0.0001",
        ),
        ("[1e-4, 1e-1]", "[0, 1e-1]", "a.yaml:8: tune.axes.lr: low > 0 must hold"),
        ("log_uniform", "loguniform", "a.yaml:8: tune.axes.lr: unknown kind of axis"),
        (
            "{optimizer: sgd}",
            "{optimiser: sgd}",
            "a.yaml:9: tune.axes.momentum.when.optimiser: there is no axis 'optimiser' (closest: "
            "optimizer)",
        ),
        ("0.99]", "1.5]", "a.yaml:9: tune.axes.momentum: input should be less than 1"),
        ("  epochs: 3", "  epochs: 3\n  lr: 1", "a.yaml:13: fixed.lr: is also tuned"),
        ("  epochs: 3", "  epochs: 3\nseeds: [1, 1]", "a.yaml:13: seeds: has a seed twice"),
        ("  epochs: 3", "  epochs: 3\nseeds: [true]", "a.yaml:13: seeds[0]: must be a number"),
        (
            "  epochs: 3",
            "  epochs: 3\nseeds: [9223372036854775808]",
            "a.yaml:13: seeds[0]: input should be less than or equal to 9223372036854775807",
        ),
        (
            "  epochs: 3",
            "  epochs: 3\nresources: {gpus: true}",
            "a.yaml:13: resources.gpus: must be a number, but got true",
        ),
        (
            "  epochs: 3",
            "  epochs: 3\nrules: [{when: {arc: cnn3}, set: {epochs: 1}}]",
            "a.yaml:13: rules[0].when.arc: there is no axis 'arc' (closest: arch)",
        ),
        (
            "{optimizer: sgd}",
            "{optimizer: sdg}",
            "a.yaml:9: tune.axes.momentum.when.optimizer: never holds: optimizer is never sdg; its "
            "values: sgd, adam",
        ),
        (
            "  epochs: 3",
            "  epochs: 3\nrules: [{when: {arch: [cnn33, cnn4]}, set: {batch_size: 32}}]",
            "a.yaml:13: rules[0].when.arch: never holds: arch is never cnn33, cnn4; its values: ",
        ),
        (
            "  epochs: 3",
            "  epochs: 3\nrules: [{when: {lr: 2}, set: {batch_size: 32}}]",
            "a.yaml:13: rules[0].when.lr: never holds: lr is never 2; its values: 0.0001 to 0.1",
        ),
        (
            "  epochs: 3",
            "  epochs: 3\nexclude: [{arch: cnn3, optimizer: adam}]\n"
            "rules: [{when: {arch: cnn3, optimizer: adam}, set: {batch_size: 32}}]",
            "a.yaml:14: rules[0].when: never holds: no combination that is left has arch=cnn3 "
            "optimizer=adam",
        ),
        (
            "  epochs: 3",
            "  epochs: 3\nexclude: [{lr: 0.1}]",
            "a.yaml:13: exclude[0].lr: there is no compared axis 'lr'",
        ),
        (
            "  epochs: 3",
            "  epochs: 3\n  schedule: cosin",
            "a.yaml:13: fixed.schedule: unknown name 'cosin' (closest: cosine)",
        ),
    ],
)
def test_a_problem_names_its_place_and_what_to_do(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    messages = problems(GOOD.replace(old, new))
    assert any(problem.startswith(expected) for problem in messages), messages


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("cnn3", "cnn33").replace("trials: 4", "trials: x").replace("3\n", "-3\n")
    lines = [int(problem.split(":")[1]) for problem in problems(text)]
    assert lines == [3, 6, 12]


def test_one_fault_is_one_line() -> None:
    assert problems(GOOD + "seeds: [-1]\n") == [
        "a.yaml:13: seeds[0]: input should be greater than or equal to 0, but got -1"
    ]
    assert problems(GOOD + "resources: {gpus: x}\n") == [
        "a.yaml:13: resources.gpus: unknown value 'x'; known: auto"
    ]
    assert problems(GOOD + "resources: {gpus: 2}\n") == [
        "a.yaml:13: resources.gpus: a trial trains on one GPU or a share of one, never on several: "
        "give auto, 0, or a share from 0.01 to 1, but got 2"
    ]
    assert problems(GOOD.replace("epochs: 3", "epochs: 3\n  normalize: {mean: [1, 1, 1]}")) == [
        "a.yaml:13: fixed.normalize: std: is required"
    ]


def test_missing_keys_are_said_at_once_beside_other_problems() -> None:
    assert problems("sweep: s\nfixed: {dataset: digits, epoch: 3}\n") == [
        "a.yaml: compare: is required",
        "a.yaml:2: fixed.epoch: unknown key 'epoch' (closest: epochs)",
        "a.yaml: arch, optimizer and lr are required: give them under fixed, compare or tune.axes",
    ]


def test_a_message_is_bounded() -> None:
    many = GOOD + f"seeds: [{', '.join(['-1'] * 1000)}]\n"
    with pytest.raises(SweepError, match="and 980 more problems") as caught:
        parse_sweep(many, "a.yaml")
    assert len(str(caught.value).splitlines()) == 21
    for text in (
        GOOD.replace("cnn3", "x" * 100_000),
        GOOD.replace("3\n", f"[{'9, ' * 10_000}]\n"),
        GOOD.replace("epochs", "x" * 1000),
        GOOD.replace("dataset: digits", '"\\e[31m": 1'),
    ):
        for problem in problems(text):
            assert len(problem) < 1500
            assert problem.isprintable()


def test_python_gets_every_check_of_a_file() -> None:
    spec = parse_sweep(GOOD, "a.yaml")
    assert check_sweep(spec) == spec
    with pytest.raises(SweepError, match=r"a\.yaml: seeds: has a seed twice"):
        check_sweep(spec.model_copy(update={"seeds": (0, 0)}))
    fixed = {"dataset": "digits", "optimizer": "sgd", "epochs": 1}
    for wrong, expected in (
        ({"rules": [{"when": {"archh": "x"}, "set": {"lr": 9}}]}, "there is no axis 'archh'"),
        ({"fixed": {**fixed, "lr": float("nan")}}, "fixed.lr: must be a finite number"),
        ({"fixed": {**fixed, "lr": True}}, "fixed.lr: must be a number, but got true"),
        ({"compare": {"arch": [build_me]}}, "give a function by its name, 'module:function'"),
        ({"compare": {"arch": ["cnn3", "cnn3"]}}, "compare.arch: has a value twice"),
    ):
        keys: dict[str, Any] = {
            "sweep": "s",
            "compare": {"arch": ["cnn3"]},
            "fixed": fixed,
            **wrong,
        }
        with pytest.raises(SweepError, match=re.escape(expected)):
            check_sweep(SweepSpec(**keys))
    with pytest.raises(TypeError, match="must be a SweepSpec"):
        check_sweep("a.yaml")  # type: ignore[arg-type]


def build_me() -> None: ...


def test_a_sweep_that_no_plan_can_hold_is_refused_at_once() -> None:
    numbers = ", ".join(map(str, range(1, 400)))
    more = f"  batch_size: [{numbers}]\n  split_seed: [{numbers}]\ntune:"
    assert problems(GOOD.replace("tune:", more)) == [
        "a.yaml:2: compare: at most 100,000 combinations, but got 318,402"
    ]
    assert problems(GOOD.replace("trials: 4", "trials: 1000000")) == [
        "a.yaml:5: tune: at most 1,000,000 trials in a sweep, but got 2,000,000"
    ]
    spec = parse_sweep(GOOD.replace("trials: 4", "trials: 100000"), "a.yaml")
    with pytest.raises(SweepError, match="but got 1,200,000"):
        parse_changes(["seeds=[1, 2, 3, 4, 5, 6]"], spec)


def test_numpys_numbers_are_numbers() -> None:
    keys: dict[str, Any] = {
        "compare": {"lr": np.array([0.5, 0.25], "float32"), "batch_size": (np.int64(8), 16)},
        "tune": {"trials": np.int32(2), "axes": {"momentum": {"uniform": np.linspace(0, 0.5, 2)}}},
        "seeds": range(3),
    }
    spec = check_sweep(SweepSpec(sweep="s", **keys))
    assert spec.compare == {"lr": (0.5, 0.25), "batch_size": (8, 16)}
    assert {type(value) for values in spec.compare.values() for value in values} == {float, int}
    assert spec.seeds == (0, 1, 2)
    assert check_changes({"epochs": np.int64(2)}, spec) == {"epochs": 2}
    with pytest.raises(SweepError, match=r"changes\['epoch'\]: unknown key 'epoch'"):
        check_changes({"epoch": 2}, spec)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "a.yaml:1: not YAML"),
        ("sweep: s\nsweep: t", "a.yaml:2: not YAML: found duplicate key"),
        ("- 1", "a.yaml: a sweep file holds keys and values"),
        ("", "a.yaml: a sweep file holds keys and values"),
    ],
)
def test_what_is_no_sweep_file_is_refused(text: str, expected: str) -> None:
    assert problems(text)[0].startswith(expected)


def test_stopping_needs_something_to_choose_between() -> None:
    text = "sweep: s\ncompare: {arch: [cnn3]}\nstop: {asha: {}}\n"
    assert problems(text)[0].startswith("a.yaml:3: stop: needs `tune`")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("tune: {trials: 4}", "tune.axes: is required"),
        ("tune: {trials: 4, axes: {}}", "tune.axes: is empty"),
        (
            "tune: {trials: 4, axes: {lr: [1]}, confirm: {top: 2}}",
            "tune.confirm.seeds: is required",
        ),
        (
            "tune: {trials: 4, axes: {lr: [1]}, confirm: {seeds: 2}}\nseeds: [1000000]",
            "seeds: seeds of 1,000,000 and up are those of tune.confirm",
        ),
        ("tune: {trials: 4, axes: {activation: [relu]}}", "tune.axes.activation: is also compared"),
        (
            "tune: {trials: 4, axes: {lr: [1]}}\nstop: {asha: {}, median: {}}",
            "stop: give one of asha, halving, hyperband, median, first_epochs, but got asha and",
        ),
        ("tune: {trials: 4, axes: {lr: [1]}}\nstop: {}", "stop: give one of asha"),
        ("tune: {trials: 4, axes: {lr: [1]}}\nstop: {asha: {grace: 1}}", "(closest: grace_epochs)"),
        (
            "tune: {trials: 4, sampler: cmaes, axes: {lr: {uniform: [0.1, 1]}}}",
            "tune.sampler: cmaes needs two axes or more",
        ),
        (
            "tune: {trials: 4, sampler: cmaes, axes: {lr: [1], momentum: {uniform: [0, 0.5]}}}",
            "tune.axes.lr: cmaes cannot search a choice",
        ),
        (
            "tune: {trials: 4, sampler: gp, axes: {lr: [1, 2], "
            "momentum: {uniform: [0, 0.5], when: {lr: 1}}}}",
            "tune.axes.momentum.when: gp cannot search an axis that exists only for some",
        ),
        (
            "tune: {trials: 4, axes: {lr: [1]}, drop: {}}\nseeds: [0, 1]",
            "tune.drop.after: must be below the number of seeds times folds (2), but got 2",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(more: str, expected: str) -> None:
    text = "sweep: s\ncompare: {activation: [relu, sigmoid]}\nfixed: {arch: cnn3}\n"
    assert expected in problems(text + more + "\n")[0]


def test_conditions_in_a_circle_are_refused() -> None:
    axes = "{momentum: {uniform: [0, 0.5], when: {lr: 1}}, lr: {choice: [1], when: {momentum: 0}}}"
    text = f"sweep: s\ncompare: {{arch: [cnn3]}}\ntune: {{trials: 1, axes: {axes}}}\n"
    assert "goes in a circle: lr -> momentum" in problems(text)[0]


def test_missing_files_and_presets_say_what_to_do() -> None:
    with pytest.raises(SweepError, match=r"no-such\.yaml: no such file; `cnngrid init"):
        load_sweep("no-such.yaml")
    with pytest.raises(SweepError, match=r"no preset of that name \(closest: digits\)"):
        load_sweep("digit")


def test_every_preset_is_a_good_file() -> None:
    for name in read_presets():
        assert load_sweep(name).sweep == name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("lr=1", "lr is tuned in a.yaml"),
        ("arch=cnn3", "arch is compared in a.yaml"),
        ("epoch=1", r"unknown key 'epoch' \(closest: epochs\)"),
        ("keep=last", "keep is a key of the sweep file, not of a config; change it in"),
        ("epochs", "write key=value"),
        ("epochs=many", "input should be a valid integer"),
        ("seeds=[-1]", "seeds are whole numbers"),
        ("seeds=[]", "--set seeds=.*is empty"),
        ("seeds=[0, 0]", "has a seed twice"),
        ("seeds=[true]", "seeds are whole numbers"),
        ("batch_size=true", "must be a number, but got true"),
    ],
)
def test_changes_are_checked(change: str, expected: str) -> None:
    spec = parse_sweep(GOOD, "a.yaml")
    with pytest.raises(SweepError, match=expected):
        parse_changes([change], spec)


def test_changes_are_read_as_yaml() -> None:
    spec = parse_sweep(GOOD, "a.yaml")
    changes = parse_changes(["epochs=2", "seeds=[3, 4]", "schedule={step: {every: 2}}"], spec)
    assert changes["epochs"] == 2
    assert changes["seeds"] == (3, 4)
    assert changes["schedule"].every == 2


def test_objectives_and_metrics_are_known_and_an_objective_is_one_for_all() -> None:
    fixed = "  epochs: 3\n"
    assert problems(
        GOOD.replace(fixed, f"{fixed}  objective: val_los\nmetrics: [macro-f1, ece]\n")
    ) == [
        "a.yaml:13: fixed.objective: unknown objective 'val_los' (closest: val_loss); known: "
        "val_top1, val_loss, val_balanced_top1, val_macro_auc, val_macro_f1, or a function of "
        "yours, package.module:function",
        "a.yaml:14: metrics[0]: unknown metric 'macro-f1' (closest: macro_f1); known: "
        "balanced_top1, ece, macro_auc, macro_f1, macro_precision, macro_recall, or a function of "
        "yours, package.module:function",
    ]
    why = "everything that ranks goes by it, so a sweep has one: give it under fixed"
    several = GOOD.replace("[sgd, adam]", "[sgd, adam]\n  objective: [val_loss, val_top1]")
    assert problems(several) == [f"a.yaml:5: compare.objective: {why}"]
    rule = GOOD + "rules: [{when: {optimizer: adam}, set: {objective: val_loss}}]\n"
    assert problems(rule) == [f"a.yaml:13: rules[0].set.objective: {why}"]
    assert problems(GOOD + "metrics: [ece, ece]\n") == ["a.yaml:13: metrics[1]: has ece twice"]


def test_a_gap_is_in_the_unit_of_the_objective() -> None:
    gap = GOOD + "stop: {halving: {gap: 1.5}}\n"
    assert problems(gap) == [
        "a.yaml:13: stop.halving.gap: below 1, because it is in the unit of val_top1, a fraction, "
        "but got 1.5"
    ]
    parse_sweep(gap.replace("  epochs: 3\n", "  epochs: 3\n  objective: val_loss\n"), "a.yaml")


@pytest.mark.parametrize(
    ("old", "new", "sound"),
    [
        ("lr: 0.1", "lr: fast", True),
        ("epochs: 2", "epohcs: 2", True),
        ("seeds: [0]", "seeds: [zero]", True),
        ("[sgd, adam]", "[sgd, adom]", True),
        ("image_size: 32", "image_sice: 32", False),
        ("dataset: digits", "dataset: [digits]", False),
        ("seeds: [0]", "seeds: [zero]\ntune: {trials: 2, axes: {momentum: [0, 0.9]}}", False),
        ("[sgd, adam]", "[sgd, adom]\nexclude: [{optimizer: adam}]", False),
    ],
)
def test_a_faulty_file_is_checked_further_if_nothing_else_depends_on_the_fault(
    old: str, new: str, sound: bool
) -> None:
    text = (
        "sweep: s\ncompare:\n  optimizer: [sgd, adam]\nfixed:\n  arch: cnn3\n  dataset: digits\n"
        "  image_size: 32\n  lr: 0.1\n  epochs: 2\nseeds: [0]\n"
    )
    assert parse_sweep(text).sweep == "s"
    with pytest.raises(SweepError) as caught:
        parse_sweep(text.replace(old, new))
    assert (caught.value.sound is not None) == sound
    if sound:
        assert {"lr", "epochs"} <= caught.value.sound.fixed.keys()
