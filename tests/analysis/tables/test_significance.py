"""Differences that the tables call significant, on folders with a known answer."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from analysis import AnalysisError, connect, make_table
from analysis.charts.catalog import make_plot
from analysis.tables.significance import ranked

pytestmark = pytest.mark.slow  # each test makes a sweep of its own

CNN3, LENET, RESNET = [0.90, 0.91, 0.92, 0.93], [0.89, 0.91, 0.91, 0.94], [0.80, 0.82, 0.81, 0.84]


def by_name(table):
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def measured(sweep, values, *, role="searched", first_seed=0, **axes):
    """Store a cell of one config with a trial per value of test_top1."""
    for seed, value in enumerate(values, first_seed):
        planned = sweep.planned(axes, seed, role=role)
        sweep.store(sweep.trial(planned, test_top1=value, val_top1=0.9))


def tuned(sweep, values, **axes):
    """Store a tuned cell: a searched trial and, confirmed on fresh seeds, the values."""
    for role, seed, tests in (("searched", 0, [0.99]), ("confirmed", 1_000_000, values)):
        measured(sweep, tests, role=role, first_seed=seed, **axes)
    row = next(row for row in sweep.plan if row["cell"].count(axes["arch"]))
    suggestion = {"cell_id": row["cell_id"], "suggestion": 0, "config_id": row["config_id"]}
    sweep.write("asked", row["cell_id"], [{**suggestion, "params": '{"lr": 0.01}'}])


def opened_with(sweep):
    sweep.write_plan()
    return connect(sweep.folder)


def three_networks(blank):
    sweep = blank()
    for arch, values in (("resnet18", RESNET), ("lenet", LENET), ("cnn3", CNN3)):
        measured(sweep, values, arch=arch)
    return opened_with(sweep)


def test_every_pair_is_compared_over_its_seeds(blank):
    table = make_table(three_networks(blank), "paired")
    table_rows = by_name(table)
    assert [(row["a"], row["b"], row["n"]) for row in table_rows] == [
        ("cnn3", "lenet", 4),
        ("cnn3", "resnet18", 4),
        ("lenet", "resnet18", 4),
    ]
    first = table_rows[0]
    assert (first["mean_a"], first["mean_b"]) == pytest.approx((0.915, 0.9125))
    assert first["difference"] == pytest.approx(0.0025)  # of 1, 0, 1 and -1 points
    sd = math.sqrt((0.75**2 + 0.25**2 + 0.75**2 + 1.25**2) / 3) / 100
    assert first["effect"] == pytest.approx(0.0025 / sd)
    p = [stats.ttest_rel(*pair).pvalue for pair in ((CNN3, LENET), (CNN3, RESNET), (LENET, RESNET))]
    assert [row["p"] for row in table_rows] == pytest.approx(p)
    # Smallest p first: times three, times two, times one.
    order = sorted(p)
    assert sorted(row["p_holm"] for row in table_rows) == pytest.approx(
        [order[0] * 3, max(order[0] * 3, order[1] * 2), order[2]]
    )
    assert [row["verdict"] for row in table_rows] == [
        "inside the noise",
        "cnn3 better",
        "lenet better",
    ]
    assert "role" not in first
    assert "a block is one seed." in table.caption


def test_only_blocks_that_both_have_count(blank):
    sweep = blank()
    measured(sweep, [0.9, 0.8, math.nan], arch="cnn3", optimizer="sgd")
    measured(sweep, [0.7], arch="cnn3", optimizer="adam")
    measured(sweep, [0.6, 0.4, 0.5], arch="lenet", optimizer="sgd")
    measured(sweep, [0.6], arch="alexnet", optimizer="adam", first_seed=5)
    table = make_table(opened_with(sweep), "paired")
    table_rows = {(row["a"], row["b"]): row for row in by_name(table)}
    row = table_rows["cnn3", "lenet"]
    assert (row["n"], row["mean_a"]) == (2, pytest.approx(0.85))
    assert row["difference"] == pytest.approx(0.35)
    for (a, b), row in table_rows.items():
        if "alexnet" in (a, b):
            assert (row["n"], row["p"], row["verdict"]) == (0, None, "no shared block")
    assert "a block is one optimizer x seed." in table.caption
    assert "Seeds of one setting are no evidence about another" in table.caption


def test_one_seed_calls_nothing_real(blank):
    sweep = blank()
    for arch, value in {"cnn3": 0.9, "lenet": 0.1}.items():
        measured(sweep, [value], arch=arch)
    connection = opened_with(sweep)
    (row,) = by_name(make_table(connection, "paired"))
    assert (row["n"], row["verdict"]) == (1, "one shared block: no spread")
    assert row["difference"] == pytest.approx(0.8)
    assert row["p"] is row["effect"] is row["difference_low"] is None
    assert make_table(connection, "comparison").caption.endswith(
        "n = 1: no spread over seeds, so no difference can be called real."
    )


def test_of_tuned_cells_the_confirmed_trials_count(blank):
    sweep = blank()
    tuned(sweep, [0.90, 0.92, 0.94], arch="cnn3")
    tuned(sweep, [0.89, 0.93, 0.93], arch="lenet")
    connection = opened_with(sweep)
    (row,) = by_name(make_table(connection, "paired"))
    assert (row["role"], row["n"], row["mean_a"]) == ("confirmed", 3, pytest.approx(0.92))
    table = make_table(connection, "comparison")
    assert {(row["role"], row["n"]) for row in by_name(table)} == {("confirmed", 3)}
    p = stats.ttest_rel([0.90, 0.92, 0.94], [0.89, 0.93, 0.93]).pvalue
    assert f"cnn3 and lenet, 0.33 points apart (p = {p:.3f}, n = 3)." in table.caption


def test_every_table_of_winners_says_searched_or_confirmed(blank):
    sweep = blank()
    tuned(sweep, [0.90, 0.92], arch="cnn3")
    measured(sweep, [0.8], arch="alexnet")
    sweep.write_plan()
    for name in ("gap", "per-class", "training-time", "classification-report"):
        caption = make_table(connect(sweep.folder), name).caption
        assert caption.endswith(
            "tuned cells are confirmed, on seeds that had no part in the choice."
        )
    tuned(sweep, [], arch="lenet")
    sweep.write_plan("plan2", minutes=1)
    caption = make_table(connect(sweep.folder), "gap").caption
    assert caption.endswith("tuned cells are confirmed, but searched in: lenet.")
    assert "tuned cells" not in make_table(connect(sweep.folder), "coverage").caption


def test_a_search_without_confirmed_trials_says_so(opened, blank):
    note = "Numbers of tuned cells are searched, not confirmed on fresh seeds."
    assert make_table(opened, "gap").caption.endswith(note)
    assert "tuned cells" not in make_table(three_networks(blank), "gap").caption


def test_the_note_names_the_cells_inside_the_noise_of_the_best(blank):
    caption = make_table(three_networks(blank), "comparison").caption
    p = stats.ttest_rel(CNN3, LENET).pvalue  # the larger of two, so Holm leaves it
    assert caption.endswith(
        "Inside the noise of the best (paired t test over shared seeds, p by Holm): "
        f"cnn3 and lenet, 0.25 points apart (p = {p:.3f}, n = 4)."
    )


@pytest.mark.parametrize(
    ("archs", "named", "rest"), [(3, 3, "."), (6, 1, "; and 5 more. Not tested")]
)
def test_the_note_stays_short_and_keeps_data_sets_apart(blank, archs, named, rest):
    sweep = blank()
    for dataset, count in {"digits": archs, "cifar10": 2}.items():
        for index in range(count):
            values = [0.9, 0.92 - index / 500]
            measured(sweep, values, arch=f"net{index}", dataset=dataset)
    sweep.store(sweep.trial(sweep.planned({"arch": "late", "dataset": "digits"}, 9)))
    caption = make_table(opened_with(sweep), "comparison").caption
    note = caption[caption.index("Inside") :]
    assert note.count("points apart") == named
    assert "net0 · digits and net1 · digits, 0.10 points apart" in note
    assert ("net0 · cifar10 and net1 · cifar10" in note) == (named == 3)
    assert "digits and net1 · cifar10" not in note
    assert rest in note
    assert "Not tested against the best: 1 row without two shared" in note


def test_equal_networks_are_equal(blank):
    sweep = blank()
    for arch in ("cnn3", "lenet"):
        measured(sweep, [0.9, 0.8], arch=arch)
    connection = opened_with(sweep)
    (row,) = by_name(make_table(connection, "paired"))
    assert (row["difference"], row["p"], row["verdict"]) == (0, None, "equal in every block")
    assert "0.00 points apart (equal in every block, n = 2)" in (
        make_table(connection, "comparison").caption
    )


def test_another_setting_is_paired_where_there_is_one_network(blank):
    sweep = blank()
    for lr, values in ((0.1, [0.9, 0.8]), (0.01, [0.7, 0.7])):
        measured(sweep, values, dataset="digits", arch="cnn3", lr=lr)
    (row,) = by_name(make_table(opened_with(sweep), "paired"))
    assert (row["a"], row["b"], row["n"]) == ("0.1", "0.01", 2)


def test_networks_are_paired_wherever_they_stand_in_the_sweep_file(blank):
    sweep = blank()
    for activation in ("gelu", "relu"):
        for arch, values in (("cnn3", [0.9, 0.8]), ("lenet", [0.7, 0.7])):
            measured(sweep, values, activation=activation, arch=arch)
    (row,) = by_name(make_table(opened_with(sweep), "paired"))
    assert (row["a"], row["b"], row["n"]) == ("cnn3", "lenet", 4)


def test_data_sets_are_not_set_against_each_other(blank):
    sweep = blank()
    for dataset in ("digits", "cifar10"):
        measured(sweep, [0.9, 0.8], arch="cnn3", dataset=dataset)
    connection = opened_with(sweep)
    assert "Nothing to pair" in make_table(connection, "paired").caption
    assert "Nothing to rank" in make_table(connection, "ranking").caption


def test_folds_are_blocks_and_say_what_they_share(blank):
    sweep = blank()
    for arch, values in (("cnn3", [0.9, 0.8]), ("lenet", [0.7, 0.7])):
        for fold, value in enumerate(values):
            trial_id = f"{len(sweep.plan):012x}"
            planned = sweep.planned({"arch": arch}, 0, fold=fold, trial_id=trial_id)
            sweep.store(sweep.trial(planned, fold=fold, test_top1=value))
    table = make_table(opened_with(sweep), "paired")
    assert [row["n"] for row in by_name(table)] == [2]
    assert "seed x fold" in table.caption
    assert "Folds share training images" in table.caption


def five_data_sets(blank):
    sweep = blank()
    for index in range(5):
        for arch, value in (("cnn3", 0.9), ("lenet", 0.8), ("resnet18", 0.7)):
            swapped = index == 0 and arch != "resnet18"
            top1 = (1.7 - value if swapped else value) - index / 100
            spread = 0.3 if arch == "resnet18" else 0.01  # its first seed is the best of all
            measured(sweep, [top1 + spread, top1 - spread], arch=arch, dataset=f"data{index}")
    measured(sweep, [0.99], arch="cnn3", dataset="only cnn3")
    return opened_with(sweep)


def test_ranks_are_over_data_sets_with_seeds_averaged(blank):
    table = make_table(five_data_sets(blank), "ranking")
    table_rows = by_name(table)
    assert [(row["value"], row["mean_rank"], row["n"]) for row in table_rows] == [
        ("cnn3", pytest.approx(1.2), 5),
        ("lenet", pytest.approx(1.8), 5),
        ("resnet18", 3.0, 5),
    ]
    # Nemenyi: 2.343 sqrt(3 x 4 / (6 x 5)) = 1.48, so only cnn3 and resnet18 differ.
    assert [row["alike"] for row in table_rows] == ["lenet", "cnn3, resnet18", "lenet"]
    ranks = ([1, 1, 1, 1, 2], [2, 2, 2, 2, 1], [3, 3, 3, 3, 3])
    p = stats.friedmanchisquare(*([-rank for rank in each] for each in ranks)).pvalue
    assert f"Friedman test: p = {p:.3f}; critical difference 1.48 (Nemenyi" in table.caption
    assert "over 5 blocks (dataset)" in table.caption
    assert "Left out: 1 in which a value is missing." in table.caption
    assert "Too few" not in table.caption
    assert "one data set" not in table.caption


def test_the_diagram_joins_what_is_not_told_apart(blank):
    spec = make_plot(five_data_sets(blank), "ranks")
    data = list(spec["datasets"].values())
    (bars,) = [rows for rows in data if rows[0].get("y") == 65]
    room = 0.008 * 2  # a bar reaches a little beyond
    assert [(bar["x"] + room, bar["x2"] - room) for bar in bars] == [
        (pytest.approx(1.2), pytest.approx(1.8)),
        (pytest.approx(1.8), pytest.approx(3.0)),
    ]
    texts = {row["text"]: row for rows in data for row in rows if "text" in row}
    assert texts["critical difference 1.48"]["x"] == pytest.approx(2.48, abs=0.005)
    sides = {name: texts[name]["left"] for name in texts if "(" in name}
    assert sides == {"cnn3 (1.20)": True, "lenet (1.80)": True, "resnet18 (3.00)": False}
    assert "too few" not in str(spec["title"])


def test_the_diagram_says_if_blocks_are_too_few(blank):
    sweep = blank()
    for dataset in ("digits", "cifar10"):
        for arch, value in {"cnn3": 0.9, "lenet": 0.8, "resnet18": 0.7}.items():
            measured(sweep, [value], arch=arch, dataset=dataset)
    spec = make_plot(opened_with(sweep), "ranks")
    assert "too few blocks: 3 are needed" in spec["title"]["subtitle"][1]
    assert "critical difference 2.34'" not in str(spec["datasets"])  # no ruler


def test_too_few_blocks_are_said(blank):
    table = make_table(three_networks(blank), "ranking")
    assert [row["mean_rank"] for row in by_name(table)] == [1, 2, 3]
    assert [row["alike"] for row in by_name(table)] == [
        "lenet, resnet18",
        "cnn3, resnet18",
        "cnn3, lenet",
    ]
    assert table.caption == (
        "Mean rank by test top-1 over 1 block (data set), 1 the best, seeds averaged first. "
        "Too few blocks: 3 values need 3 before any two can be told apart."
    )


def test_values_that_never_meet_are_not_ranked(blank):
    sweep = blank()
    measured(sweep, [0.9], arch="cnn3", dataset="digits")
    measured(sweep, [0.9], arch="lenet", dataset="cifar10")
    connection = opened_with(sweep)
    assert ranked(connection) is None
    with pytest.raises(AnalysisError, match="nothing to show in ranks"):
        make_plot(connection, "ranks")
    assert make_table(connection, "ranking").rows == []
