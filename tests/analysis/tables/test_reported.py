"""The papers' numbers, as shipped and beside the measured ones."""

from __future__ import annotations

import csv
from collections import defaultdict

import pytest

from analysis import connect, make_table
from analysis.results.database import rows
from analysis.results.sql_files import SHIPPED
from analysis.tables.study_tables import METRICS

PAPERS = [row for file in SHIPPED["reported"] for row in csv.DictReader(file.open())]
STUDIES = ["astrokhet-2024", "hu-realm", "simpson-cifar100", "xiong-2022", "zeng-alexnet"]


def of(study, metric, **columns):
    """Return the shipped rows of a study on a metric."""
    filters = {"study": study, "metric": metric, **columns}
    result_rows = [
        row for row in PAPERS if all(row[key] == value for key, value in filters.items())
    ]
    assert result_rows
    return result_rows


def by_name(table):
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def stored(sweep, axes, *, seeds=(0, 1), **columns):
    """Store complete trials of a cell; `columns` are both of the config and of the row."""
    for seed in seeds:
        config = {key: columns[key] for key in ("dataset", "labels") if key in columns}
        planned = sweep.planned({**config, **axes}, seed, cell=str(axes).replace("'", '"'))
        sweep.store(sweep.trial(planned, **columns))


def test_every_row_has_a_study_a_standing_and_a_known_metric():
    assert sorted({row["study"] for row in PAPERS}) == STUDIES
    assert {row["standing"] for row in PAPERS} == {"printed", "code", "recomputed"}
    assert {row["metric"] for row in PAPERS} <= set(METRICS)
    identities = [tuple(v for key, v in row.items() if key != "value") for row in PAPERS]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(
    ("arch", "mean"), [("cnn3", 0.704), ("alexnet", 0.784), ("mobilenet_small", 0.567)]
)
def test_xiongs_classes_average_to_what_the_study_found(arch, mean):
    values = [float(row["value"]) for row in of("xiong-2022", "recall", arch=arch)]
    assert len(values) == 10
    assert sum(values) / 10 == pytest.approx(mean, abs=1e-9)


def test_astrokhets_times_multiply_and_accuracies_are_counts_of_863_images():
    seconds = {(row["arch"], row["optimizer"]): row for row in of("astrokhet-2024", "train_time_s")}
    for row in of("astrokhet-2024", "epoch_time_s"):
        (epochs,) = of("astrokhet-2024", "epochs_run", arch=row["arch"], optimizer=row["optimizer"])
        whole = seconds[row["arch"], row["optimizer"]]
        product = float(row["value"]) * int(epochs["value"])
        assert product == pytest.approx(float(whole["value"]), rel=0.005)
    right = [
        float(row["value"]) * 863
        for row in of("astrokhet-2024", "val_top1")
        if row["arch"] != "alexnet_bn"
    ]
    assert [round(images) for images in right] == [776, 806, 789, 795, 796]
    assert all(abs(images - round(images)) < 863 * 0.5e-4 for images in right)


@pytest.mark.slow
def test_a_studys_own_sweep_stands_beside_all_of_its_numbers(blank):
    sweep = blank("hu-realm")
    for lr, top1 in ((0.01, 0.75), (0.001, 0.70)):
        axes = {"arch": "resnet18", "optimizer": "adam", "lr": lr}
        stored(sweep, axes, dataset="cifar10", test_top1=top1, epochs=4)
    sweep.write_plan()
    result_rows = rows(connect(sweep.folder), "FROM reported")
    assert {row["study"] for row in result_rows} == {"hu-realm"}
    assert len({row["place"] for row in result_rows}) == len(
        [row for row in PAPERS if row["study"] == "hu-realm"]
    )
    tests = {
        row["lr"]: row
        for row in result_rows
        if row["metric"] == "test_top1" and row["optimizer"] == "adam"
    }
    assert (tests[0.01]["reported"], tests[0.001]["reported"]) == (0.8144, 0.8212)
    assert (tests[0.01]["measured_mean"], tests[0.001]["measured_mean"]) == (0.75, 0.70)
    assert (tests[0.01]["n"], tests[0.01]["measured_sd"]) == (2, 0.0)
    waiting = [
        row["lr"]
        for row in by_name(make_table(connect(sweep.folder), "reported"))
        if row["optimizer"] == "sgd" and row["metric"] == "test top-1 (%)"
    ]
    assert waiting == [0.01, 0.001]
    (unmeasured,) = [row for row in result_rows if row["arch"] == "alexnet" and row["epoch"] == 30][
        :1
    ]
    assert unmeasured["measured_mean"] is unmeasured["cell_id"] is None


@pytest.mark.slow
def test_a_number_of_an_epoch_stands_beside_that_epoch_or_the_last_one(blank):
    sweep = blank("hu-realm")
    axes = {"arch": "resnet18", "optimizer": "adam", "lr": 0.01}
    stored(sweep, axes, dataset="cifar10", val_top1=0.5)
    sweep.write_plan()
    connection = connect(sweep.folder)
    curve = {
        row["epoch"]: row["top1"]
        for row in rows(connection, "SELECT epoch, avg(train_top1) AS top1 FROM epochs GROUP BY 1")
    }
    by_epoch = {
        row["epoch"]: row
        for row in rows(
            connection, "FROM reported WHERE metric = 'train_top1' AND cell_id IS NOT NULL"
        )
    }
    assert by_epoch[1]["measured_mean"] == pytest.approx(curve[1])
    assert by_epoch[30]["measured_mean"] == pytest.approx(curve[4])
    assert "after epoch 4 (paper: 30)" in by_epoch[30]["differs"]
    assert "after epoch" not in by_epoch[1]["differs"]


@pytest.mark.slow
def test_another_sweep_stands_beside_the_numbers_of_its_networks_alone(blank):
    sweep = blank("own")
    stored(sweep, {"arch": "cnn3"}, dataset="cifar10", optimizer="adam", lr=0.05)
    stored(sweep, {"arch": "resnet18"}, dataset="digits")
    sweep.write_plan()
    result_rows = rows(connect(sweep.folder), "FROM reported")
    assert {(row["study"], row["arch"]) for row in result_rows} == {("xiong-2022", "cnn3")}
    (top1,) = [row for row in result_rows if row["metric"] == "test_top1"]
    assert top1["reported"] == 0.7
    assert top1["differs"] == "optimizer adam (paper: sgd); lr 0.05 (paper: 0.001)"
    (count,) = [row for row in result_rows if row["metric"] == "trainable_params"]
    assert (count["measured_mean"], count["differs"]) == (122_570, None)


@pytest.mark.slow
def test_a_compared_learning_rate_must_be_the_papers(blank):
    sweep = blank("own")
    for lr in (0.001, 0.05):
        stored(sweep, {"arch": "cnn3", "lr": lr}, dataset="cifar10", optimizer="sgd")
    sweep.write_plan()
    result_rows = rows(connect(sweep.folder), "FROM reported WHERE metric = 'test_top1'")
    assert [row["differs"] for row in result_rows] == [None]


# -- zeng's confusion matrices ----------------------------------------------------------------

# (true, predicted): images, as the paper prints them.
CONFUSED = {
    "run 1": {(5, 3): 180, (3, 5): 142, (2, 4): 124},
    "run 2": {(3, 5): 213, (2, 4): 107, (5, 3): 105},
}


def matrix_of(run):
    """Return a matrix with the diagonal, the sums and the largest confusions of a run of zeng's.

    The row sums are 1,000; recall gives the diagonal and precision the column sums. The other
    cells are not known and do not count: they are filled in order, as far as the sums allow.
    """
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for metric in ("precision", "recall"):
        for row in of("zeng-alexnet", metric, setting=run, standing="recomputed"):
            scores[metric][row["class_name"]] = float(row["value"])
    right = [round(1000 * recall) for recall in scores["recall"].values()]
    matrix = [[0] * 10 for _ in range(10)]
    predicted = [round(n / p) for n, p in zip(right, scores["precision"].values(), strict=True)]
    for index, n in enumerate(right):
        matrix[index][index] = n
    for (label, guess), n in CONFUSED[run].items():
        matrix[label][guess] = n
    assert sum(predicted) == 10_000
    fill(matrix, predicted)
    return matrix, list(scores["recall"])


def fill(matrix, predicted):
    """Place the remaining images one by one, always for the class that has most left to place."""
    given = {(a, b) for a in range(10) for b in range(10) if matrix[a][b]}
    left = [1000 - sum(row) for row in matrix]
    room = [n - sum(column) for n, column in zip(predicted, zip(*matrix, strict=True), strict=True)]
    assert sum(left) == sum(room)
    while any(left):
        _, label, guess = max(
            (max(left[a] + room[a], left[b] + room[b]) + min(left[a], room[b]) / 1000, a, b)
            for a in range(10)
            for b in range(10)
            if left[a] and room[b] and a != b and (a, b) not in given
        )
        matrix[label][guess] += 1
        left[label] -= 1
        room[guess] -= 1


@pytest.mark.slow
@pytest.mark.parametrize(("run", "right"), [("run 1", 7539), ("run 2", 7485)])
def test_zengs_matrices_give_the_recomputed_scores(blank, run, right):
    matrix, names = matrix_of(run)
    pairs = [(a, b) for a in range(10) for b in range(10) for _ in range(matrix[a][b])]
    sweep = blank("zeng-alexnet")
    row = sweep.trial(
        sweep.planned({"arch": "alexnet_cifar"}, 0), dataset="cifar10", test_top1=right / 10_000
    )
    sweep.write_plan()
    sweep.store(row)
    key = {"trial_id": row["trial_id"], "split": "test"}
    sweep.write(
        "predictions",
        row["trial_id"],
        [
            {**key, "index": index, "label": label, "predicted": predicted, "confidence": 0.9}
            for index, (label, predicted) in enumerate(pairs)
        ],
    )
    sweep.write(
        "classes",
        row["trial_id"],
        [{**key, "class_index": index, "class_name": name} for index, name in enumerate(names)],
    )
    connection = connect(sweep.folder)
    counted = {
        (row["label"], row["predicted"]): row["n"] for row in rows(connection, "FROM confusion")
    }
    assert CONFUSED[run].items() <= counted.items()
    by_line = {row["line"]: row for row in by_name(make_table(connection, "classification-report"))}
    assert by_line["accuracy"]["recall"].mean == right / 10_000
    for metric in ("precision", "recall", "f1"):
        for paper in of("zeng-alexnet", metric, setting=run, standing="recomputed"):
            assert round(by_line[paper["class_name"]][metric].mean, 4) == float(paper["value"])
        (average,) = of("zeng-alexnet", f"test_macro_{metric}", setting=run)
        for line in ("macro average", "weighted average"):
            assert round(by_line[line][metric].mean, 4) == float(average["value"])


def test_zengs_one_misprint_is_the_precision_of_the_first_class():
    wrong = []
    for row in of("zeng-alexnet", "precision", standing="printed"):
        (recomputed,) = of(
            "zeng-alexnet",
            "precision",
            standing="recomputed",
            setting=row["setting"],
            class_name=row["class_name"],
        )
        if abs(float(row["value"]) - float(recomputed["value"])) > 0.005:
            wrong.append((row["setting"], row["class_name"], row["value"], recomputed["value"]))
    assert wrong == [("run 1", "automobile", "0.96", "0.8648")]


# -- the papers' tables -----------------------------------------------------------------------


@pytest.mark.slow
def test_paper_tables_show_the_papers_column_beside_ours(blank):
    sweep = blank("simpson-cifar100")
    for labels in ("coarse", "fine"):
        axes = {"arch": "alexnet_kumar", "labels": labels}
        stored(sweep, axes, dataset="cifar100", labels=labels, train_top1=0.9, val_top1=0.5)
    sweep.write_plan()
    connection = connect(sweep.folder)
    first = by_name(make_table(connection, "label-sets"))[0]
    assert (first["arch"], first["labels"]) == ("alexnet_kumar", "coarse")
    assert (first["train_top1"].mean, first["reported_train_top1"]) == (0.9, 0.94)
    assert (first["reported_test_loss"], first["reported_train_time_s"]) == (2.37, 16200)
    coarse, fine = sorted(by_name(make_table(connection, "gap")), key=lambda row: row["labels"])
    assert coarse["train_val"].mean == pytest.approx(0.4)
    assert coarse["reported_train_val"] == pytest.approx(0.94 - 0.48)
    assert fine["reported_train_val"] == pytest.approx(0.90 - 0.36)


@pytest.mark.slow
def test_a_gap_is_taken_trial_by_trial(blank):
    sweep = blank()
    for seed, (train, test) in enumerate([(0.9, 0.5), (0.8, 0.6)]):
        planned = sweep.planned({"arch": "cnn3"}, seed)
        sweep.store(sweep.trial(planned, train_top1=train, test_top1=test))
    sweep.write_plan()
    (row,) = by_name(make_table(connect(sweep.folder), "gap"))
    assert row["train_test"].mean == pytest.approx(0.3)
    assert row["train_test"].sd == pytest.approx(0.2 / 2**0.5)


@pytest.mark.slow
def test_coarse_accuracy_counts_confusions_inside_a_coarse_class_as_right(blank):
    sweep = blank("simpson-cifar100")
    stored(sweep, {"arch": "a", "labels": "fine"}, seeds=[0], dataset="cifar100", labels="fine")
    stored(
        sweep,
        {"arch": "a", "labels": "coarse"},
        seeds=[0],
        dataset="cifar100",
        labels="coarse",
        test_top1=0.6,
    )
    sweep.write_plan()
    (fine,) = [row for row in sweep.plan if '"fine"' in row["cell"]]
    # Beaver (4) and dolphin (30) are aquatic mammals; an apple (0) is a fruit.
    guesses = [(4, 4), (4, 30), (30, 0), (0, 0)]
    sweep.write(
        "predictions",
        fine["trial_id"],
        [
            {
                "trial_id": fine["trial_id"],
                "split": "test",
                "index": index,
                "label": label,
                "predicted": predicted,
                "confidence": 0.9,
            }
            for index, (label, predicted) in enumerate(guesses)
        ],
    )
    (row,) = by_name(make_table(connect(sweep.folder), "coarse-from-fine"))
    assert (row["fine_top1"].mean, row["derived_top1"].mean) == (0.5, 0.75)
    assert row["coarse_top1"].mean == 0.6


def test_every_coarse_class_of_cifar100_has_five_fine_ones():
    (file,) = SHIPPED["cifar100"]
    members = defaultdict(list)
    csv_rows = list(csv.DictReader(file.open()))
    for row in csv_rows:
        members[int(row["coarse"]), row["coarse_name"]].append(row["fine_name"])
    assert [int(row["fine"]) for row in csv_rows] == list(range(100))
    assert sorted(index for index, _ in members) == list(range(20))
    assert {len(names) for names in members.values()} == {5}
    assert members[17, "trees"] == [
        "maple_tree",
        "oak_tree",
        "palm_tree",
        "pine_tree",
        "willow_tree",
    ]


def test_the_classification_view_agrees_with_the_stored_counts(opened):
    (row,) = rows(
        opened,
        "SELECT sum(support) AS support, sum(predicted) AS predicted, sum(correct) AS correct "
        "FROM classification",
    )
    (right,) = rows(opened, "SELECT count(*) AS n FROM predictions WHERE label = predicted")
    assert row["support"] == row["predicted"] == 21 * 60
    assert row["correct"] == right["n"]
