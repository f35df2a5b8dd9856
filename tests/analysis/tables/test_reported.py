"""The papers' numbers, as shipped and beside the measured ones."""

from __future__ import annotations

import csv
import json
from collections import defaultdict

import pytest

from analysis import connect, make_table
from analysis.results.database import rows
from analysis.results.sql_files import SHIPPED
from analysis.tables.reported import METRICS


def shipped(name):
    return [row for file in SHIPPED[name] for row in csv.DictReader(file.open())]


RUNS = {(row["study"], row["run"]): row for row in shipped("reported_runs")}
# A number has the settings of its run; `note` is the number's own.
PAPERS = [{**RUNS[row["study"], row["run"]], **row} for row in shipped("reported")]
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
        planned = sweep.planned({**config, **axes}, seed, cell=json.dumps(axes))
        sweep.store(sweep.trial(planned, **columns))


def test_every_row_has_a_study_a_standing_and_a_known_metric():
    assert sorted({row["study"] for row in PAPERS}) == STUDIES
    assert {row["standing"] for row in PAPERS} == {"printed", "code", "recomputed", "cited"}
    assert {row["metric"] for row in PAPERS} <= set(METRICS)
    identities = [tuple(v for key, v in row.items() if key != "value") for row in PAPERS]
    assert len(set(identities)) == len(identities)
    assert {(row["study"], row["run"]) for row in PAPERS} == set(RUNS)


def test_numbers_of_other_authors_are_cited_and_no_others():
    cited: dict[str, list[tuple[str, float]]] = {
        row["author"]: [] for row in PAPERS if row["standing"] == "cited"
    }
    for row in PAPERS:
        assert bool(row["author"]) == (row["standing"] == "cited")
        if row["author"]:
            cited[row["author"]].append((row["arch"], float(row["value"])))
    assert cited == {
        "Sharma et al. 2018": [("alexnet_kumar alexnet_5x5", 0.441), ("wrn_20_10", 0.5982)],
        "McDonnell 2018": [("wrn_20_10", 0.8302), ("wrn_20_10", 0.8183)],
    }


# What the papers themselves print, and what stands only in hu-realm's log.
STANDINGS = [
    ("hu-realm", "resnet18-adam-0.01", "train_top1", "1", ["0.3413"], ["printed"]),
    ("hu-realm", "resnet18-sgd-0.01", "train_top1", "1", ["0.3936"], ["printed"]),
    ("hu-realm", "resnet18-adam-0.001", "train_top1", "1", ["0.4401"], ["code"]),
    (
        *("hu-realm", "resnet18-adam-0.001", "train_loss", "30"),
        *(["0.3458", "0.34"], ["code", "printed"]),
    ),
    ("hu-realm", "mobilenet-sgd-0.01", "train_loss", "1", ["2.3944"], ["printed"]),
    ("hu-realm", "mobilenet-sgd-0.01", "train_loss", "30", ["2.0062"], ["printed"]),
    ("hu-realm", "resnet18-adam-0.01", "test_top1", "", ["0.8144"], ["code"]),
    ("simpson-cifar100", "alexnet-fine", "test_top1", "", ["0.36"], ["printed"]),
    ("simpson-cifar100", "alexnet-coarse", "val_top1", "", ["0.48", "0.47"], ["printed"] * 2),
    ("simpson-cifar100", "alexnet-coarse", "test_loss", "", ["2.37"], ["printed"]),
    ("simpson-cifar100", "alexnet-coarse", "val_loss", "", ["2.7", "2.67"], ["printed"] * 2),
    ("simpson-cifar100", "alexnet-fine", "epoch_time_s", "", ["150"], ["printed"]),
    ("simpson-cifar100", "alexnet-coarse", "epoch_time_s", "", ["150"], ["printed"]),
    ("zeng-alexnet", "run 1", "test_top1", "", ["0.7539", "0.75"], ["recomputed", "printed"]),
]


@pytest.mark.parametrize(("study", "run", "metric", "epoch", "values", "standings"), STANDINGS)
def test_numbers_stand_as_the_papers_have_them(study, run, metric, epoch, values, standings):
    found = of(study, metric, run=run, epoch=epoch)
    assert [row["value"] for row in found] == values
    assert [row["standing"] for row in found] == standings


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
    stored(sweep, {"arch": "cnn3"}, dataset="cifar10", optimizer="sgd", lr=0.05)
    stored(sweep, {"arch": "resnet18"}, dataset="digits")
    sweep.write_plan()
    result_rows = rows(connect(sweep.folder), "FROM reported")
    assert {(row["study"], row["arch"]) for row in result_rows} == {("xiong-2022", "cnn3")}
    (top1,) = [row for row in result_rows if row["metric"] == "test_top1"]
    assert (top1["reported"], top1["n"]) == (0.7, 2)
    # The helper's epochs train 1,000 images; epochs are the paper's own secret.
    assert top1["differs"] == (
        "training images 1,000 (paper: 50,000); epochs 4 (paper: not stated); "
        "lr 0.05 (paper: 0.001); momentum 0.9 (paper: 0); normalize dataset (paper: half)"
    )
    (count,) = [row for row in result_rows if row["metric"] == "trainable_params"]
    assert (count["measured_mean"], count["differs"]) == (122_570, None)


@pytest.mark.slow
def test_a_number_stands_beside_no_other_optimizer_activation_or_kind_of_weights(blank):
    sweep = blank("own")
    stored(sweep, {"arch": "cnn3", "optimizer": "adam"}, dataset="cifar10")
    stored(sweep, {"arch": "cnn3", "activation": "sigmoid"}, dataset="cifar10")
    stored(sweep, {"arch": "cnn3", "one_bit": True}, dataset="cifar10")
    sweep.write_plan()
    connection = connect(sweep.folder)
    numbers = rows(connection, "FROM reported WHERE metric NOT LIKE '%_params'")
    assert len(numbers) == 12  # Table 1: the accuracy, ten classes, the time
    for row in numbers:
        assert row["cell_id"] is row["n"] is row["measured_mean"] is None
        assert row["differs"] == "no run with relu, sgd, lr 0.001"
    table = make_table(connection, "reported")
    assert "12 numbers have no run here: cnn3 sgd lr 0.001 (12)." in table.caption
    counts = [row for row in by_name(table) if row["metric"] == "trainable parameters"]
    assert [row["measured"].mean for row in counts] == [122_570] * 3


@pytest.mark.slow
def test_a_compared_learning_rate_must_be_the_papers(blank):
    sweep = blank("own")
    for lr in (0.001, 0.05):
        stored(sweep, {"arch": "cnn3", "lr": lr}, dataset="cifar10", optimizer="sgd")
    sweep.write_plan()
    result_rows = rows(connect(sweep.folder), "FROM reported WHERE metric = 'test_top1'")
    assert [row["cell"] for row in result_rows] == ['{"arch": "cnn3", "lr": 0.001}']
    assert "lr" not in result_rows[0]["differs"]


@pytest.mark.slow
def test_what_differs_has_every_setting_the_most_important_first(blank):
    sweep = blank("own")
    axes = {
        "arch": "mobilenet_v2",
        "width": 0.5,
        "data_fingerprint": "0" * 16,
        "limit_train": 900,
        "augment": [{"kind": "flip"}, {"kind": "crop"}],
        "weight_decay": 5e-4,
        "l2": 0.1,
        "schedule": {"kind": "cosine"},
        "pretrained": "imagenet",
        "mixup": 0.2,
        "ema": None,
        "early_stop": {"metric": "val_top1"},
        "val_fraction": 0.1,
        "normalize": "half",
    }
    stored(
        *(sweep, axes),
        dataset="cifar10",
        optimizer="sgd",
        lr=0.02,
        momentum=0.5,
        batch_size=128,
        image_size=64,
        epochs=9,
        precision="bf16",
    )
    sweep.write_plan()
    connection = connect(sweep.folder)
    differs = {
        row["metric"]: row["differs"]
        for row in rows(connection, "FROM reported WHERE run = 'mobilenet-sgd-0.01'")
    }
    assert differs["train_loss"].split("; ") == [
        "other images than the published cifar10",
        "limit_train 900",
        "training images 1,000 (paper: 50,000)",
        "width 0.5",
        "pre-trained weights imagenet (paper: none)",
        "quirk none (paper: hu-mobilenet-crop)",
        "epochs 9 (paper: 30)",
        "image size 64 (paper: 32)",
        "lr 0.02 (paper: 0.01)",
        "batch size 128 (paper: 64)",
        "augment crop flip (paper: flip)",
        "schedule cosine (paper: constant)",
        "momentum 0.5 (paper: 0.9)",
        "weight decay 0.0005 (paper: 0)",
        "select best (paper: last)",
        "early stop (paper: none)",
        "validation part 0.1 (paper: none)",
        "normalize half (paper: imagenet)",
        "precision bf16",
        "mixup 0.2",
        "trials 2 (paper: 1)",
        "after epoch 4 (paper: 30)",
    ]
    shown = [
        row["differs"]
        for row in by_name(make_table(connection, "reported"))
        if row["metric"] == "train loss, epoch 30" and row["arch"] == "mobilenet_v2"
    ]
    assert "imagenet (paper: none); +17 more; paper: running mean" in shown[0]


@pytest.mark.slow
def test_a_quirk_of_evaluation_is_no_difference_of_training_numbers(blank):
    sweep = blank("hu-realm")
    stored(sweep, {"arch": "resnet18", "optimizer": "adam", "lr": 0.01}, dataset="cifar10")
    sweep.write_plan()
    by_split = {
        row["split"]: row["differs"]
        for row in rows(connect(sweep.folder), "FROM reported WHERE cell_id IS NOT NULL")
    }
    assert "quirk none (paper: hu-random-test)" in by_split["test"]
    assert "quirk" not in by_split["train"]


@pytest.mark.slow
def test_a_cited_number_stands_in_the_table_and_in_no_column_of_the_papers_own(blank):
    sweep = blank("simpson-cifar100")
    axes = {"arch": "wrn_20_10", "labels": "fine"}
    stored(sweep, axes, dataset="cifar100", labels="fine", test_top1=0.5)
    sweep.write_plan()
    connection = connect(sweep.folder)
    (cited, _) = [
        row
        for row in by_name(make_table(connection, "reported"))
        if row["standing"] == "cited" and row["measured"].mean == 0.5
    ]
    assert cited["metric"] == "test top-1 (%) of Sharma et al. 2018"
    assert cited["reported"].mean == 0.5982
    (row,) = by_name(make_table(connection, "label-sets"))
    assert "reported_test_top1" not in row
    assert row["reported_val_top1"] == 0.01


# -- zeng's confusion matrices ----------------------------------------------------------------

NAMES = list(dict.fromkeys(row["label"] for row in shipped("reported_confusion")))


def matrix_of(run):
    """Return a run's printed matrix: images by true and predicted class."""
    return {
        (NAMES.index(row["label"]), NAMES.index(row["predicted"])): int(row["n"])
        for row in shipped("reported_confusion")
        if row["run"] == run
    }


@pytest.mark.parametrize(
    ("run", "right", "largest"),
    [
        ("run 1", 7539, {(5, 3): 180, (3, 5): 142, (2, 4): 124}),
        ("run 2", 7485, {(3, 5): 213, (2, 4): 107, (5, 3): 105}),
    ],
)
def test_zengs_matrices_are_whole_and_give_all_printed_scores(run, right, largest):
    matrix = matrix_of(run)
    assert sorted(matrix) == [(a, b) for a in range(10) for b in range(10)]
    assert [sum(matrix[a, b] for b in range(10)) for a in range(10)] == [1000] * 10
    assert sum(matrix[a, a] for a in range(10)) == right
    wrong = {pair: n for pair, n in matrix.items() if pair[0] != pair[1]}
    assert dict(sorted(wrong.items(), key=lambda item: -item[1])[:3]) == largest
    recall = [matrix[a, a] / 1000 for a in range(10)]
    precision = [matrix[a, a] / sum(matrix[b, a] for b in range(10)) for a in range(10)]
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    scores = {("test_top1", ""): right / 10_000}
    for metric, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        scores |= {(metric, name): values[index] for index, name in enumerate(NAMES)}
        # Every class has 1,000 images, so both averages are the same.
        scores |= {
            (f"test_{kind}_{metric}", ""): sum(values) / 10 for kind in ("macro", "weighted")
        }
    papers: dict[str, dict[tuple[str, str], float]] = {"recomputed": {}, "printed": {}}
    for row in PAPERS:
        if (row["study"], row["run"]) == ("zeng-alexnet", run):
            papers[row["standing"]][row["metric"], row["class_name"]] = float(row["value"])
    assert papers["recomputed"] == {key: round(value, 4) for key, value in scores.items()}
    # Python formats a value that falls on a half as the paper does.
    printed = {key: float(f"{value:.2f}") for key, value in scores.items()}
    misprint = {("precision", "automobile"): 0.96} if run == "run 1" else {}
    assert papers["printed"] == printed | misprint
    assert len(printed) == 30 + 7


@pytest.mark.slow
def test_zengs_first_matrix_as_our_predictions_is_measured_as_it_is_reported(blank):
    pairs = [pair for pair, n in sorted(matrix_of("run 1").items()) for _ in range(n)]
    sweep = blank("zeng-alexnet")
    row = sweep.trial(
        sweep.planned({"arch": "alexnet_cifar"}, 0), dataset="cifar10", test_top1=0.7539
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
    scores = {
        (paper["class_name"], paper["metric"]): float(paper["value"])
        for paper in PAPERS
        if paper["run"] == "run 1" and paper["standing"] == "recomputed"
    }
    sweep.write(
        "classes",
        row["trial_id"],
        [
            {
                **key,
                "class_index": index,
                "class_name": name,
                "support": 1000,
                **{metric: scores[name, metric] for metric in ("precision", "recall", "f1")},
            }
            for index, name in enumerate(NAMES)
        ],
    )
    connection = connect(sweep.folder)
    beside = rows(connection, "FROM reported_confusion ORDER BY place")
    assert [(row["run"], row["n"]) for row in beside] == [("run 1", 1)] * 100 + [("run 2", 1)] * 100
    assert all(row["measured_mean"] == row["reported"] for row in beside[:100])
    assert beside[153]["label"] == beside[153 - 100]["label"] == "dog"
    assert (beside[153]["reported"], beside[153]["measured_mean"]) == (105, 180)
    by_line = {row["line"]: row for row in by_name(make_table(connection, "classification-report"))}
    assert by_line["accuracy"]["recall"].mean == 0.7539
    for (name, metric), value in scores.items():
        if name:
            assert round(by_line[name][metric].mean, 4) == value
    for metric in ("precision", "recall", "f1"):
        for line in ("macro average", "weighted average"):
            value = scores["", f"test_macro_{metric}"]
            assert round(by_line[line][metric].mean, 4) == value
            assert by_line[line][f"reported_{metric}"][0] == value
    weighted = rows(connection, "FROM reported WHERE metric = 'test_weighted_precision'")
    assert [row["measured_mean"] for row in weighted] == pytest.approx([0.7562] * 4, abs=1e-4)


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
        axes = {"arch": "alexnet_kumar", "labels": labels, "optimizer": "adam"}
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
