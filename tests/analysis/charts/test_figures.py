"""The ready figures: every one in every format, deterministic, offline, with nothing injected."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from analysis import AnalysisError, connect, save_plot
from analysis.charts import svg
from analysis.charts.catalog import PLOTS, make_plot
from analysis.charts.curves import epoch_ticks
from analysis.charts.figure_formats import FILE_FORMATS, script
from analysis.charts.svg import svg_process
from analysis.charts.tuning import _axis
from analysis.tables.table_formats import MISSING
from tests.analysis.conftest import Sweep, write

# ablation needs cells to compare, ranks blocks, lr-sensitivity and parallel-coordinates several
# configs of a cell, enhancement the results of `explain`, metric-curves metrics of the sweep file,
# confusion-reported a network and data set of zeng-alexnet.
OF_MORE = (
    *("ablation", "ranks", "lr-sensitivity", "parallel-coordinates", "enhancement"),
    *("metric-curves", "confusion-reported"),
)
OF_ONE_CELL = [name for name in PLOTS if name not in OF_MORE]
OF_A_SEARCH = ("lr-sensitivity", "parallel-coordinates")
STARTS = {".svg": b"<svg", ".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!doctype html>"}


@pytest.fixture(scope="module")
def svgs(opened, searched, measured, of_a_paper, tmp_path_factory):
    """Every figure as SVG, by name."""
    others = {
        "parallel-coordinates": searched,
        "metric-curves": measured,
        "confusion-reported": of_a_paper,
    }
    folder = tmp_path_factory.mktemp("svgs") / "new folder"
    return {
        name: save_plot(others.get(name, opened), name, folder / f"{name}.svg").read_bytes()
        for name in PLOTS
    }


@pytest.mark.slow
def test_every_figure_is_drawn(svgs):
    for name, content in svgs.items():
        assert content.startswith(STARTS[".svg"]), name
        assert len(content) > 5_000, name


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FILE_FORMATS)
def test_a_figure_in_every_format(opened, tmp_path, suffix):
    content = save_plot(opened, "curves", tmp_path / f"figure{suffix}").read_bytes()
    assert content.startswith(STARTS[suffix])
    assert len(content) > 5_000


@pytest.mark.slow
def test_nothing_to_show_is_a_message(blank, tmp_path):
    sweep = blank()
    sweep.planned({"arch": "cnn3"}, 0)
    sweep.write_plan()
    connection = connect(sweep.folder)
    for name in PLOTS:
        with pytest.raises(AnalysisError, match=f"nothing to show in {name} yet"):
            save_plot(connection, name, tmp_path / "x.svg")
    assert not (tmp_path / "x.svg").exists()


def test_printed_matrices_stand_beside_ours_on_one_scale(of_a_paper):
    spec = make_plot(of_a_paper, "confusion-reported")
    titles = [(chart["title"]["text"], chart["title"]["subtitle"]) for chart in spec["concat"]]
    assert titles[:2] == [
        ("zeng-alexnet, run 1", "7,539 of 10,000 right (75.39%)"),
        ("zeng-alexnet, run 2", "7,485 of 10,000 right (74.85%)"),
    ]
    assert titles[2][0] == "measured: alexnet_cifar (1 trial)"
    assert " of 60 right" in titles[2][1]
    domains = {
        tuple(layer["encoding"]["color"]["scale"]["domain"])
        for chart in spec["concat"]
        for layer in chart["layer"][:1]
    }
    assert domains == {(0, 1)}
    shares = [row for row in data_rows(spec) if row["label"] == "dog" and row["predicted"] == "cat"]
    assert [row["share"] for row in shares[:2]] == [0.18, 0.105]


def test_unknown_names_and_suffixes_give_the_known_ones(opened, tmp_path):
    with pytest.raises(
        AnalysisError, match=r"no figure curve \(did you mean curves\?\); there are: acc"
    ):
        save_plot(opened, "curve", tmp_path / "x.svg")
    with pytest.raises(AnalysisError, match=r"cannot write \.gif; there are: \.svg, \.png"):
        save_plot(opened, "curves", tmp_path / "x.gif")
    with pytest.raises(AnalysisError, match="cannot write a file without a suffix"):
        save_plot(opened, "curves", tmp_path / "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(AnalysisError, match="cannot be written"):
        save_plot(opened, "curves", tmp_path / "file" / "x.svg")


def test_points_are_percent_with_standard_deviations(opened):
    spec = make_plot(opened, "accuracy-vs-params")
    best = opened.execute(
        "SELECT 100 * test_top1_mean, 100 * test_top1_sd, trainable_params FROM best "
        "WHERE n = 2 ORDER BY 1 DESC LIMIT 1"
    ).fetchone()
    points = [row for row in data_rows(spec) if row.get("value") == pytest.approx(best[0])]
    assert points
    assert points[0]["high"] - points[0]["value"] == pytest.approx(best[1])
    assert points[0]["params"] == best[2]


def data_rows(spec):
    """Return every row of data of a specification."""
    return [row for rows in spec["datasets"].values() for row in rows]


def test_confusion_shares_are_of_the_true_class(opened):
    chart_rows = [row for row in data_rows(make_plot(opened, "confusion")) if "share" in row]
    by_class: dict[str, Any] = {}
    for row in chart_rows:
        by_class[row["label"]] = by_class.get(row["label"], 0) + row["share"]
    assert len(by_class) == 10
    assert all(share == pytest.approx(1) for share in by_class.values())
    assert sum(row["images"] for row in chart_rows) == 120  # two trials of 60 images


def test_enhancement_sets_repairs_against_breakages_and_noise(opened):
    chart_rows = data_rows(make_plot(opened, "enhancement"))
    cells = {row["cell"] for row in chart_rows}
    assert len(cells) == 2
    assert len(chart_rows) == 2 * 4 * 4
    (cell,) = {row["cell"] for row in chart_rows if row["trials"] == 2}
    of_one = [row for row in chart_rows if row["cell"] == cell and row["transform"] == "combined"]
    assert {(row["by"], row["what"]): (row["images"], row["net"]) for row in of_one} == {
        ("enhanced", "repaired"): (5, 4),
        ("enhanced", "broken"): (-1, 4),
        ("noise", "repaired"): (1, -1),
        ("noise", "broken"): (-2, -1),
    }


@pytest.mark.parametrize("name", ["confusion", "confusion-counts"])
def test_classes_that_are_never_predicted_have_their_column(opened, name):
    spec = make_plot(opened, name)
    charts = [chart for panel in spec.get("vconcat", [spec]) for chart in panel["layer"]]
    for chart in charts:
        across, down = (chart["encoding"][side]["scale"]["domain"] for side in "xy")
        assert across == down
        assert len(down) == 10


def test_confusion_counts_colour_by_images(opened):
    text = str(make_plot(opened, "confusion-counts"))
    assert "'field': 'images', 'scale'" in text
    assert "'field': 'share', 'scale'" not in text


def test_every_network_has_a_confusion_matrix_on_the_scale_from_0_to_1(opened):
    spec = make_plot(opened, "confusion-networks")
    titles = [chart["title"]["text"] for chart in spec["concat"]]
    assert titles == ["cnn3", "mobilenet_small", "resnet18"]
    assert str(spec).count("'domain': [0, 1]") == 3
    for data in spec["datasets"].values():
        assert sum(row["share"] for row in data) == pytest.approx(10)


def test_ablation_bars_of_a_group_differ_in_one_axis(opened):
    spec = make_plot(opened, "ablation")
    by_optimizer, by_lr = (
        spec["datasets"][panel["layer"][0]["data"]["name"]]
        if "data" in panel["layer"][0]
        else spec["datasets"][panel["data"]["name"]]
        for panel in spec["vconcat"]
    )
    assert {row["setting"] for row in by_lr} == {"0.01", "0.1"}
    (expected_value,) = opened.execute(
        "SELECT 100 * test_top1_mean FROM best WHERE arch = 'cnn3' "
        "AND optimizer = 'adam' AND lr = 0.1"
    ).fetchone()
    for rows_, group, setting in (
        (by_lr, "cnn3 · adam", "0.1"),
        (by_optimizer, "cnn3 · lr 0.1", "adam"),
    ):
        (bar,) = [row for row in rows_ if (row["group"], row["setting"]) == (group, setting)]
        assert bar["value"] == pytest.approx(expected_value)
    sizes: dict[str, int] = {}
    for row in by_optimizer:
        sizes[row["group"]] = sizes.get(row["group"], 0) + 1
    assert min(sizes.values()) == 2
    assert sum(sizes.values()) == 12  # without the tuned cell, which has no partner


def test_final_bars_have_both_measures_of_every_cell(opened):
    accuracy, loss = make_plot(opened, "final-bars")["datasets"].values()
    assert len(accuracy) == len(loss) == 13
    means = opened.execute(
        "SELECT 100 * test_top1_mean, test_loss_mean FROM best ORDER BY test_top1_mean DESC LIMIT 1"
    ).fetchone()
    assert (accuracy[0]["value"], loss[0]["value"]) == pytest.approx(means)


def test_training_curves_have_both_splits_and_both_measures(opened):
    top1, loss = make_plot(opened, "training-curves")["datasets"].values()
    for points in (top1, loss):
        assert {point["dash"] for point in points} == {"train", "val"}
        assert {point["panel"] for point in points} == {"cnn3", "mobilenet_small", "resnet18"}
    (expected_value,) = opened.execute(
        "SELECT train_loss_mean FROM learning_curves WHERE epoch = 2 LIMIT 1"
    ).fetchone()
    at_two = [point for point in loss if point["epoch"] == 2 and point["dash"] == "train"]
    assert [point["value"] for point in at_two] == [pytest.approx(expected_value)] * 13


def test_the_schedule_is_drawn_over_the_curve(opened):
    lr, top1 = make_plot(opened, "lr-schedule")["datasets"].values()
    assert {point["value"] for point in lr} == {0.003, 0.01, 0.1}
    assert max(point["value"] for point in top1) > 50
    assert {point["epoch"] for point in lr} == {point["epoch"] for point in top1}


@pytest.mark.slow
def test_curves_show_a_running_sweep(blank, tmp_path):
    sweep = blank()
    sweep.store_epochs(sweep.trial(sweep.planned({"arch": "cnn3"}, 0)), 2)
    sweep.write_plan()
    assert save_plot(connect(sweep.folder), "curves", tmp_path / "c.svg").exists()


@pytest.mark.slow
def test_many_networks_of_many_kinds_fit(blank, tmp_path):
    sweep = blank()
    for index in range(12):
        axes = {
            "arch": f"net{index:02}",
            "optimizer": ["sgd", "adam"][index % 2],
            "dataset": "digits",
        }
        planned = sweep.planned(axes, 0)
        sweep.store(sweep.trial(planned, trainable_params=1000 * 3**index))
    sweep.write_plan()
    connection = connect(sweep.folder)
    for name in OF_ONE_CELL:
        text = save_plot(connection, name, tmp_path / f"{name}.svg").read_text()
        assert "undefined" not in text
        assert "NaN" not in text
    assert "net11" in (tmp_path / "accuracy-vs-params.svg").read_text()


@pytest.mark.slow
def test_one_trial_makes_figures_also_if_its_axes_are_called_like_our_columns(blank, tmp_path):
    sweep = blank()
    axes = {"arch": "cnn3", "value": "a.b[0]'\"", "colour.x[1]": "\\", "params": 3, "shown": None}
    sweep.store(sweep.trial(sweep.planned({"lr": 0.1, **axes}, 0)))
    sweep.write_plan()
    connection = connect(sweep.folder)
    with pytest.raises(AnalysisError, match="nothing to show in ablation"):
        make_plot(connection, "ablation")
    for name in OF_ONE_CELL:
        text = save_plot(connection, name, tmp_path / f"{name}.svg").read_text()
        assert "NaN" not in text


@pytest.mark.slow
def test_hostile_names_stay_text(blank, tmp_path):
    name = "</script><script>alert('x')</script>&\n"
    sweep = blank()
    for arch in (name, "cnn3"):
        sweep.store(sweep.trial(sweep.planned({"arch": arch}, 0)))
    sweep.write_plan()
    connection = connect(sweep.folder)
    for figure in OF_ONE_CELL:
        svg = save_plot(connection, figure, tmp_path / "x.svg").read_text()
        assert "<script" not in svg
    page = save_plot(connection, "curves", tmp_path / "x.html").read_text()
    assert "alert('x')</script>" not in page
    assert page.count("</script>") == 3


def test_pages_need_no_network(opened, tmp_path):
    page = save_plot(opened, "curves", tmp_path / "x.html").read_text()
    without = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", without)
    assert "vegaEmbed" in page


@pytest.mark.soak
@pytest.mark.slow
def test_svg_is_the_same_in_a_new_process(tiny, svgs, tmp_path):
    code = (
        "import sys; from analysis import connect, save_plot;"
        "from analysis.charts.catalog import PLOTS;"
        "connection = connect(sys.argv[1]);"
        "[save_plot(connection, name, f'{sys.argv[2]}/{name}.svg') for name in PLOTS]"
    )
    # Of other folders.
    others = {"parallel-coordinates", "metric-curves", "confusion-reported"}
    code = code.replace("in PLOTS]", f"in PLOTS if name not in {others}]")
    command = [sys.executable, "-c", code, str(tiny), str(tmp_path)]
    subprocess.run(command, check=True, env={"PYTHONHASHSEED": "7", "HOME": str(tmp_path)})
    for name in set(PLOTS) - others:
        assert svgs[name] == (tmp_path / f"{name}.svg").read_bytes()


@pytest.mark.slow
def test_the_script_is_cached_and_made_if_it_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = script()
    (kept,) = (tmp_path / "cnngrid").iterdir()
    assert kept.read_text() == text == script()
    assert "</script" not in text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert script() == text


def drawn(spec, **columns):
    """Return rows of data with these values."""
    return [row for row in data_rows(spec) if columns.items() <= row.items()]


def test_sensitivity_has_a_point_per_config_as_searched(searched):
    chart_rows = drawn(make_plot(searched, "lr-sensitivity"), panel="cnn3")
    assert [(row["lr"], row["value"], row["state"]) for row in chart_rows] == [
        (0.01, pytest.approx(70), "pruned"),
        (0.001, pytest.approx(80), "complete"),
        (0.1, pytest.approx(90), "complete"),
        (1.0, None, "diverged"),
    ]
    assert [row["lr"] for row in chart_rows if row["best"]] == [0.1]
    assert chart_rows[2]["high"] - chart_rows[2]["value"] == pytest.approx(100 * 0.02 / 2**0.5)
    assert chart_rows[2]["trials"] == 2
    assert not any(row["joined"] for row in chart_rows)  # weight decay differs too


def test_a_compared_learning_rate_has_a_sensitivity_with_lines(opened):
    spec = make_plot(opened, "lr-sensitivity")
    chart_rows = drawn(spec, panel="cnn3", colour="sgd")
    assert [row["lr"] for row in chart_rows] == [0.01, 0.1]
    assert all(row["joined"] for row in chart_rows)
    (expected_value,) = opened.execute(
        "SELECT 100 * val_top1_mean FROM cells WHERE arch = 'cnn3' AND optimizer = 'sgd' "
        "AND lr = 0.1"
    ).fetchone()
    assert chart_rows[1]["value"] == pytest.approx(expected_value)
    assert not drawn(spec, colour="adamw")  # one learning rate only


def test_parallel_coordinates_have_the_keys_that_differ(searched):
    spec = make_plot(searched, "parallel-coordinates")
    assert [panel["title"]["text"] for panel in spec["concat"]] == ["cnn3"]
    heads = [row["text"] for row in data_rows(spec) if row.get("y") == 1 and "text" in row]
    assert [name for name in heads if name in ("lr", "weight_decay", "augment", "epochs")] == [
        "lr",
        "weight_decay",
        "augment",
    ]
    best = sorted(drawn(spec, best=True), key=lambda row: row["x"])
    assert [row["value"] for row in best] == pytest.approx([90] * 4)
    assert {row["shade"] for row in best} == {3}
    # The highest lr, the lowest weight decay, no augmentation (below the axis), the best.
    assert [row["y"] for row in best] == pytest.approx([1, 0, -0.13, 1])
    (middle,) = (row for row in drawn(spec, pruned=True) if row["x"] == 0)
    assert middle["y"] == pytest.approx(0.5)  # 0.01 between 0.001 and 0.1
    assert len(drawn(spec, pruned=True)) == 4


def test_axes_of_numbers_end_at_round_ones():
    heights, marks = _axis([0.0003, 0.02, 0.2])
    assert [text for _, text in marks] == ["0.0003", "0.001", "0.01", "0.1", "0.2"]
    assert heights[0] == pytest.approx(0)
    assert heights[2] == pytest.approx(1)
    heights, marks = _axis([0.81, 0.9, 0.98])
    assert [text for _, text in marks] == ["0.8", "0.85", "0.9", "0.95", "1"]
    assert heights == [pytest.approx(0.05), pytest.approx(0.5), pytest.approx(0.9)]
    heights, marks = _axis([64, 32, 128, 32, 64, 128, None])
    assert marks == [(0, "32"), (0.5, "64"), (1, "128"), (-0.13, MISSING)]
    assert heights == [0.5, 0, 1, 0, 0.5, 1, -0.13]
    heights, marks = _axis([["flip"], None, {"a": 1}])
    assert [text for _, text in marks] == ["flip", '{"a":1}', MISSING]
    assert _axis([70.0])[0] == [pytest.approx(0.5)]


def test_figures_of_a_search_hold_no_number_that_is_none(searched, tmp_path):
    for name in OF_A_SEARCH:
        text = save_plot(searched, name, tmp_path / f"{name}.svg").read_text()
        assert "NaN" not in text
        assert "undefined" not in text


def test_epochs_on_an_axis_are_round_and_evenly_spaced() -> None:
    assert [epoch_ticks(last) for last in (1, 6, 10, 20)] == [
        [1], [1, 2, 3, 4, 5, 6], [2, 4, 6, 8, 10], [1, 5, 10, 15, 20]
    ]  # fmt: skip
    for last in range(1, 2000):
        named = epoch_ticks(last)
        assert 1 <= len(named) <= 7
        assert named[-1] > last * 2 / 3


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A connection to 90 cells of two trials: three networks at thirty learning rates."""
    sweep = Sweep(tmp_path_factory.mktemp("crowd") / "crowd", "crowd")
    trials = []
    for index in range(180):
        axes = {"arch": f"net{index % 3}", "lr": 0.001 * (1 + index // 6)}
        planned = sweep.planned(axes, index // 3 % 2)
        trials.append(sweep.trial(planned, test_top1=0.5 + index / 1000, lr=axes["lr"]))
    write(sweep.folder, "trials", "compacted-1", trials)
    epochs = [row for trial in trials for row in sweep.epoch_rows(trial, 2)]
    write(sweep.folder, "epochs", "compacted-1", epochs)
    sweep.write_plan()
    return connect(sweep.folder)


def test_figures_draw_the_best_of_many_cells_and_say_so(crowd, monkeypatch):
    """`curves` and bars have fewer places than this sweep has cells."""
    spec = make_plot(crowd, "curves")
    [points] = spec["datasets"].values()
    lines = {(point["panel"], point["colour"]) for point in points}
    assert len(lines) == 40
    assert {panel for panel, _ in lines} == {"net0", "net1", "net2"}
    assert "the best 40 of 90 cells by validation" in spec["title"]["subtitle"]
    spec = make_plot(crowd, "final-bars")
    [shown, _] = spec["datasets"].values()
    assert len(shown) == 60
    assert shown[0]["value"] == pytest.approx(67.75)
    assert "the best 60 of 90 cells by test top-1" in spec["title"]["subtitle"]
    monkeypatch.setattr("analysis.charts.scatter.MOST_POINTS", 60)
    monkeypatch.setattr("analysis.charts.tuning.MOST_CONFIGS", 75)
    spec = make_plot(crowd, "accuracy-vs-params")
    assert len(spec["layer"]) < 5, "30 learning rates have no shapes"
    assert "the best 60 of 90 cells by test top-1" in spec["title"]["subtitle"]
    spec = make_plot(crowd, "lr-sensitivity")
    [points] = spec["datasets"].values()
    assert len(points) == 60
    assert "the best 60 of 90 configs by validation" in spec["title"]["subtitle"]


DEADLY_PROGRAM = """
import importlib.util, os
found = importlib.util.spec_from_file_location("svg", {path!r})
svg = importlib.util.module_from_spec(found)
found.loader.exec_module(svg)
draw = svg.to_svg
svg.to_svg = lambda spec: os._exit(3) if "deadly" in spec else draw(spec)
svg.main()
"""


def test_a_figure_that_cannot_be_drawn_is_left_out_and_the_others_are_drawn(tmp_path, monkeypatch):
    """The engine refuses the second figure and dies of the fourth."""
    program = tmp_path / "program.py"
    program.write_text(DEADLY_PROGRAM.format(path=svg.__file__))
    monkeypatch.setattr(svg, "__file__", str(program))
    schema = "https://vega.github.io/schema/vega-lite/v6.1.json"
    small = {"$schema": schema, "data": {"values": [{"x": 1}]}, "mark": "point"}
    refused = {**small, "data": {"values": [{"x": 1}], "format": {"type": "csv"}}, "mark": 7}
    deadly = {**small, "deadly": True}
    with svg_process() as process:
        for spec in (small, refused, small, deadly, small):
            process.draw(spec)
        first, second, third, fourth, fifth = process.drawings()
    assert first == third == fifth
    assert first is not None
    assert second is None
    assert fourth is None
