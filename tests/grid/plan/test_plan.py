import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cnncore.models import build_model
from grid.errors import SweepError
from grid.plan.plan import Plan, expand_sweep, plan_rows
from grid.sweep.load import parse_sweep

COMPARE = "sweep: s\ncompare:\n  arch: [cnn3, resnet18]\n  optimizer: [sgd, adam]\n"
FIXED = "fixed: {dataset: digits, image_size: 32, lr: 0.1, epochs: 3}\n"


def inspect(name: str, image_size: int | None) -> SimpleNamespace:
    if name == "cifar10":
        raise ValueError("CIFAR-10 is not there: put it there")
    return SimpleNamespace(image_size=8, class_count=10, fingerprint=None, validation=0)


def plan(text: str, **changes: object) -> Plan:
    return expand_sweep(parse_sweep(text, "a.yaml"), inspect, changes)


def test_cells_are_the_product_and_seeds_go_outermost() -> None:
    sweep_plan = plan(COMPARE + FIXED + "seeds: [5, 6]\n")
    assert [cell.label() for cell in sweep_plan.cells] == [
        "cnn3 sgd", "cnn3 adam", "resnet18 sgd", "resnet18 adam"
    ]  # fmt: skip
    assert [trial.seed for trial in sweep_plan.trials] == [5] * 4 + [6] * 4
    assert len({trial.trial_id for trial in sweep_plan.trials}) == 8
    assert len({trial.config_id for trial in sweep_plan.trials}) == 4


def test_settings_win_in_the_order_fixed_rules_axes_changes() -> None:
    text = (
        COMPARE
        + FIXED.replace("3}", "3, batch_size: 1}")
        + (
            "rules:\n"
            "  - {when: {arch: cnn3}, set: {batch_size: 2, epochs: 4}}\n"
            "  - {when: {arch: cnn3, optimizer: [adam, adamw]}, set: {batch_size: 3}}\n"
        )
    )
    sizes = [trial.config.batch_size for trial in plan(text).trials]
    assert sizes == [2, 3, 1, 1]
    changed = plan(text, batch_size=9)
    assert [trial.config.batch_size for trial in changed.trials] == [9] * 4
    assert [trial.config.epochs for trial in changed.trials] == [4, 4, 3, 3]
    assert changed.folder.startswith("s-")
    assert len(changed.folder) == 6


def test_exclusions_leave_cells_out() -> None:
    sweep_plan = plan(COMPARE + FIXED + "exclude: [{arch: cnn3, optimizer: sgd}]\n")
    assert [cell.label() for cell in sweep_plan.cells] == [
        "cnn3 adam",
        "resnet18 sgd",
        "resnet18 adam",
    ]
    with pytest.raises(SweepError, match="leaves no cell"):
        plan(COMPARE + FIXED + "exclude: [{arch: [cnn3, resnet18]}]\n")
    with pytest.raises(SweepError, match=r"exclude\[0\]: leaves out nothing: no combination"):
        plan(COMPARE + FIXED + "exclude: [{arch: cnn3, optimizer: adamw}]\n")


def test_the_image_size_defaults_to_the_data_sets() -> None:
    sweep_plan = plan(COMPARE.replace("cnn3, ", "") + FIXED.replace("image_size: 32, ", ""))
    assert sweep_plan.trials[0].config.image_size == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (COMPARE.replace("cnn3", "alexnet") + FIXED, r"a\.yaml:5: fixed\.image_size: .*\b63\b"),
        (COMPARE + FIXED.replace("digits", "cifar10"), r"a\.yaml:5: fixed\.dataset: CIFAR-10 is n"),
        (COMPARE + FIXED.replace("lr: 0.1, ", ""), "a.yaml: lr is required: give it under fixed"),
        (
            "sweep: s\ncompare: {momentum: [0.1, 0.9], optimizer: [sgd, adam]}\n"
            + FIXED.replace("{", "{arch: cnn3, "),
            r"a\.yaml:2: compare: cells momentum=0\.1 optimizer=adam and momentum=0\.9 "
            r"optimizer=adam are the same",
        ),
        (
            COMPARE.replace("sgd, adam", "sgd, adamw") + FIXED.replace("lr", "l2: 0.01, lr"),
            r"a\.yaml:5: fixed\.l2: adamw decays weights .* use weight_decay",
        ),
    ],
)
def test_problems_are_found_in_the_plan(text: str, expected: str) -> None:
    with pytest.raises(SweepError, match=expected):
        plan(text)


def test_a_tuned_size_that_a_network_cannot_take_is_found_in_the_plan() -> None:
    text = (
        COMPARE
        + FIXED.replace("image_size: 32, ", "")
        + ("tune: {trials: 2, axes: {image_size: {int_range: [32, 40]}}}\n")
    )
    with pytest.raises(SweepError, match=r"a\.yaml:6: tune\.axes\.image_size: cnn3 .* got 40"):
        plan(text)


def test_a_tuned_plan_counts_every_suggestion_and_seed() -> None:
    text = (
        COMPARE
        + FIXED.replace("lr: 0.1, ", "")
        + ("tune: {trials: 3, axes: {lr: {uniform: [0.1, 0.2]}}}\nseeds: [0, 1]\n")
    )
    sweep_plan = plan(text)
    rows = plan_rows(sweep_plan)
    assert sweep_plan.planned == len(rows) == 4 * 3 * 2
    assert {row.get("trial_id") for row in rows} == {None}
    # Every cell makes suggestion n before any cell makes suggestion n + 1.
    assert [row["suggestion"] for row in rows] == sorted(row["suggestion"] for row in rows)


CIFAR100 = "fixed: {dataset: cifar100, image_size: 32, lr: 0.1, epochs: 3}\n"


def test_labels_resolve_to_the_first_that_the_data_set_has() -> None:
    fine = plan(COMPARE + CIFAR100).trials[0]
    assert fine.config.labels == "fine"
    coarse = plan(COMPARE + CIFAR100.replace("lr", "labels: coarse, lr")).trials[0]
    assert coarse.config.labels == "coarse"
    assert coarse.config_id != fine.config_id
    assert plan(COMPARE + FIXED).trials[0].config.labels is None
    for text, problem in (
        (CIFAR100.replace("lr", "labels: rough, lr"), "no labels 'rough'; it has fine and coarse"),
        (FIXED.replace("lr", "labels: fine, lr"), "digits has one set of labels"),
    ):
        with pytest.raises(SweepError, match=rf"a\.yaml:5: fixed\.labels: .*{problem}"):
            plan(COMPARE + text)


def test_a_data_set_that_counts_by_content_has_it_in_its_ids() -> None:
    def ids(fingerprint: str | None) -> set[str]:
        facts = SimpleNamespace(image_size=32, fingerprint=fingerprint, validation=0)
        sweep_plan = expand_sweep(parse_sweep(COMPARE + CIFAR100), lambda name, size: facts)
        return {trial.trial_id for trial in sweep_plan.trials}

    assert not ids(None) & ids("one")
    assert not ids("two") & ids("one")


def test_folds_are_replicates_beside_the_seeds() -> None:
    sweep_plan = plan(COMPARE + FIXED + "seeds: [5, 6]\nfolds: 3\n")
    cells = len(sweep_plan.cells)
    seeds_and_folds = [(trial.seed, trial.fold) for trial in sweep_plan.trials]
    assert seeds_and_folds == [(s, f) for s in (5, 6) for f in range(3) for _ in range(cells)]
    assert [row["fold"] for row in plan_rows(sweep_plan)] == [fold for _, fold in seeds_and_folds]
    assert len({trial.trial_id for trial in sweep_plan.trials}) == sweep_plan.planned == 6 * cells
    assert len({trial.config_id for trial in sweep_plan.trials}) == cells
    assert {trial.config.val_fraction for trial in sweep_plan.trials} == {None}
    # Trials without folds, or with another number of folds, have other ids.
    for other in ("", "folds: 2\n"):
        others = plan(COMPARE + FIXED + "seeds: [5, 6]\n" + other).trials
        assert not {t.trial_id for t in others} & {t.trial_id for t in sweep_plan.trials}


def test_folds_out_of_range_are_refused() -> None:
    for folds in (1, -3):
        with pytest.raises(SweepError, match=r"a\.yaml:6: folds: .* 2, but got"):
            plan(COMPARE + FIXED + f"folds: {folds}\n")
    spec = parse_sweep(COMPARE + FIXED + "folds: 9\n", "a.yaml")
    expand_sweep(spec, inspect, None, lambda config: ("eight", 9))
    with pytest.raises(SweepError, match=r"a\.yaml:6: folds: at most 8 for digits, .*eight"):
        expand_sweep(spec, inspect, None, lambda config: ("eight", 8))


def test_no_validation_images_are_refused_without_folds() -> None:
    with pytest.raises(SweepError, match="null only under `folds`"):
        plan(COMPARE + FIXED.replace("lr", "val_fraction: null, lr"))


@pytest.mark.parametrize(
    ("settings", "place", "problem"),
    [
        # `select` is not in the file: its default is meant.
        ("val_fraction: 0", "val_fraction", "select: best chooses by validation"),
        ("val_fraction: 0, select: best", "select", "set select: last"),
        ("early_stop: {patience: 2}, NONE", "early_stop", "goes by val_loss"),
        ("schedule: {plateau: {metric: val_top1}}, NONE", "schedule", "plateau goes by val_top1"),
        ("objective: val_macro_f1, NONE", "objective", "val_macro_f1 is measured on them"),
    ],
)
def test_what_goes_by_validation_is_refused_without_it(
    settings: str, place: str, problem: str
) -> None:
    settings = settings.replace("NONE", "val_fraction: 0, select: last")
    with pytest.raises(SweepError, match=rf"a\.yaml:5: fixed\.{place}: .*{problem}"):
        plan(COMPARE + FIXED.replace("lr", settings + ", lr"))


def test_searches_and_rankings_are_refused_without_validation() -> None:
    fixed = FIXED.replace("lr: 0.1", "val_fraction: 0, select: last, lr: 0.1")
    tuned = fixed.replace("lr: 0.1, ", "") + "tune: {trials: 2, axes: {lr: [0.1, 0.2]}}\n"
    with pytest.raises(SweepError, match=r"a\.yaml:6: tune: a search ranks .* val_fraction: 0"):
        plan(COMPARE + tuned)
    with pytest.raises(SweepError, match=r"a\.yaml:6: keep: top ranks .* val_fraction: 0"):
        plan(COMPARE + fixed + "keep: {top: 1}\n")
    # A part of the cells may go without.
    some = plan(COMPARE + FIXED + "rules: [{when: {arch: cnn3}, set: "
                "{val_fraction: 0, select: last}}]\n")  # fmt: skip
    assert [trial.config.val_fraction for trial in some.trials] == [0, 0, 0.1, 0.1]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("quirk: hu-random-test, augment: [crop]", "must be crop, flip, but got crop"),
        ("quirk: kumar-augmented-eval", "must be flip, rotate, scale, but got none"),
        ("quirk: hu-mobilenet-crop, augment: [crop, flip]", "must be flip, but got crop, flip"),
        ("quirk: hu-mobilenet-crop, augment: [flip], image_size: 64", "must be 32, but got 64"),
        ("quirk: hu-random", "known: .*hu-random-test"),
    ],
)
def test_a_quirk_goes_with_its_studys_other_settings_alone(settings: str, problem: str) -> None:
    fixed = "fixed: {dataset: digits, lr: 0.1, epochs: 3, " + settings + "}\n"
    with pytest.raises(SweepError, match=rf"a\.yaml:5: fixed\.quirk: .*{problem}"):
        plan(COMPARE.replace("cnn3, ", "") + fixed)


def test_a_quirk_with_its_studys_settings_is_planned() -> None:
    for settings in (
        "quirk: hu-mobilenet-crop, augment: [flip], image_size: 32",
        "quirk: hu-random-test, augment: [flip, crop]",
        "quirk: simpson-scale",
    ):
        fixed = "fixed: {dataset: digits, lr: 0.1, epochs: 3, " + settings + "}\n"
        assert (
            plan(COMPARE.replace("cnn3, ", "") + fixed).trials[0].config.quirk
            == settings.split(",")[0][7:]
        )


def test_an_option_that_a_network_does_not_take_is_refused_where_it_is_set() -> None:
    with pytest.raises(
        SweepError, match=r"a\.yaml:5: fixed\.width: cnn3 does not take width; its .*: activation"
    ):
        plan(COMPARE + FIXED.replace("3}", "3, width: 0.5}"))


def test_heads_count_what_the_paper_says_unless_told_otherwise() -> None:
    text = "sweep: s\ncompare: {arch: [googlenet, resnet18]}\n" + FIXED.replace(
        "{", "{optimizer: sgd, "
    )
    assert [t.config.aux_weight for t in plan(text).trials] == [0.3, None]
    text_with_rule = text + "rules: [{when: {arch: googlenet}, set: {aux_weight: 0}}]\n"
    assert [t.config.aux_weight for t in plan(text_with_rule).trials] == [0.0, None]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("pretrained: imagenet", "cnn3 has no ImageNet weights; give a file, or take one of alex"),
        ("pretrained: nowhere.pt", r"nowhere\.pt cannot be read \(No such file or directory\)"),
        (
            "pretrained: fits.pt",
            r".*fits\.pt does not fit: none of its names .*: 0\.weight.* conv1\..*\(arch=resnet18",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_found_in_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(build_model("cnn3", classes=5, image_size=32).state_dict(), "fits.pt")
    with pytest.raises(SweepError, match=r"a\.yaml:5: fixed\.pretrained: .*" + expected):
        plan(COMPARE + FIXED.replace("3}", f"3, {setting}}}"))


def test_weights_count_by_their_content_not_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = build_model("cnn3", classes=5, image_size=32)
    torch.save(model.state_dict(), "one.pt")
    shutil.copy("one.pt", "same.pt")
    torch.save({name: value + 1 for name, value in model.state_dict().items()}, "other.pt")

    def ids(path: str) -> tuple[str, str]:
        text = f"sweep: s\ncompare: {{arch: [cnn3], pretrained: [{path}]}}\n"
        (trial,) = plan(text + FIXED.replace("{", "{optimizer: sgd, ")).trials
        assert trial.config.pretrained == str(tmp_path / path)
        return trial.trial_id, trial.cell_id

    assert ids("one.pt") == ids("same.pt")
    assert not set(ids("one.pt")) & set(ids("other.pt"))


def test_missing_settings_are_one_problem() -> None:
    with pytest.raises(SweepError) as caught:
        plan(COMPARE)
    assert caught.value.problems == (
        "a.yaml: dataset, lr and epochs are required: give them under fixed, compare or tune.axes "
        "(arch=cnn3 optimizer=sgd and 3 more cells)",
    )


def test_a_problem_of_many_cells_is_one_line_with_a_count() -> None:
    rates = ", ".join(f"{n / 1000}" for n in range(1, 1000))
    text = f"sweep: s\ncompare: {{arch: [alexnet], optimizer: [sgd], lr: [{rates}]}}\n"
    with pytest.raises(SweepError) as caught:
        plan(text + "fixed: {dataset: digits, image_size: 8, epochs: 1}\n")
    (problem,) = caught.value.problems
    assert "alexnet takes images of 63 pixels and more, got 8" in problem
    assert problem.endswith("(arch=alexnet optimizer=sgd lr=0.001 and 998 more cells)")
    text = text.replace("sgd", "adam").replace("lr:", "momentum:").replace("alexnet", "resnet18")
    with pytest.raises(SweepError) as caught:
        plan(text + "fixed: {dataset: digits, image_size: 32, epochs: 1, lr: 0.1}\n")
    (problem,) = caught.value.problems
    assert problem.endswith("are left out; `exclude` one of them (997 more pairs)")


@pytest.mark.parametrize(
    ("fixed", "expected"),
    [
        (
            "warmup_epochs: 4",
            r"a\.yaml:5: fixed\.warmup_epochs: at most the epochs \(3\), but got 4",
        ),
        # Digits are stored with 8 pixels, whatever image_size is.
        ("augment: [{crop: {padding: 9}}]", r"crop: padding: at most 8 for images of 8 pixels"),
        ("augment: [{erase: {size: 17}}]", r"erase: size: at most 16 for images of 8 pixels"),
        (
            "augment: [{gaussian_blur: {kernel: 9}}]",
            r"gaussian_blur: kernel: at most 8 for images of 8 pixels, but got 9",
        ),
        (
            "augment: ['torchvision.transforms.v2:CenterCrop': {size: 4}]",
            r"a\.yaml:5: fixed\.augment: .*CenterCrop: must return .*\(3, 8, 8\).*\(3, 4, 4\)",
        ),
        ("limit_train: 9", r"a\.yaml:5: fixed\.limit_train: digits has 10 classes.* but got 9"),
    ],
)
def test_amounts_without_a_meaning_are_refused(fixed: str, expected: str) -> None:
    with pytest.raises(SweepError, match=expected):
        plan(COMPARE + FIXED.replace("}", f", {fixed}}}"))


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        ("[trivial_augmnt]", r"unknown name 'trivial_augmnt' \(closest: trivial_augment\)"),
        ("[{rand_augment: {magnitude: 31}}]", r"magnitude: .*less than or equal to 30, but got 31"),
        ("[{posterize: {bits: 9}}]", r"bits: .*less than or equal to 8, but got 9"),
        ("[{gaussian_blur: {kernel: 4}}]", r"kernel: an odd number .*got 4; 3 or 5 is one"),
        ("[gaussian_blur]", r"kernel: is required"),
        ("[{color_jitter: {hue: 0.6}}]", r"hue: .*less than or equal to 0\.5, but got 0\.6"),
        ("[color_jitter]", r"color_jitter changes nothing; give brightness"),
        ("[{color_jitter: {hues: 0.1}}]", r"unknown key 'hues'"),
        ("[{random_resized_crop: {scale: [0.5, 0.1]}}]", r"scale: .*low <= high, but got \[0\.5, "),
        ("[{random_erasing: {scale: [0, 0.1]}}]", r"scale.*greater than 0, but got 0"),
        ("[{color_jitter: {brightness: -1}}]", r"\[0\]\.brightness: .*equal to 0, but got -1"),
        ("[{grayscale: {p: 1.5}}]", r"p: .*less than or equal to 1, but got 1\.5"),
        ("[crop, random_resized_crop]", r"crop and random_resized_crop both cut .*one of them"),
        ("[trivial_augment, rand_augment]", r"both draw each image's operations"),
        ("['m:A', {'m:A': {n: 1}}]", r"each kind once, but got m:A more than once"),
        ("['shutil:copy']", r"shutil is a module of Python's standard library"),
    ],
)
def test_a_wrong_change_of_images_is_refused_with_its_line(augment: str, expected: str) -> None:
    with pytest.raises(SweepError, match=rf"a\.yaml:5: fixed\.augment: (.*){expected}"):
        plan(COMPARE + FIXED.replace("}", f", augment: {augment}}}"))


@pytest.mark.parametrize(("key", "allowed"), [("eval_crop: 0.1", "0.25"), ("tta: flop", "flip")])
def test_a_wrong_view_is_refused_with_its_line(key: str, allowed: str) -> None:
    with pytest.raises(SweepError, match=rf"a\.yaml:5: fixed\.{key[:3]}.*{allowed}"):
        plan(COMPARE + FIXED.replace("}", f", {key}}}"))


def test_a_function_of_a_notebook_is_told_to_move_into_a_file() -> None:
    with pytest.raises(
        SweepError, match=r"compare\.arch: architecture __main__:net: .*name it my_code:net"
    ):
        plan(COMPARE.replace("cnn3", "'__main__:net'") + FIXED)
