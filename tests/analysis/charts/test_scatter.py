"""Scatter figures: the Pareto front, names that do not cover each other, a plot per data set."""

from __future__ import annotations

import itertools
import random

import pytest

from analysis import connect
from analysis.charts.catalog import make_plot
from analysis.charts.parts.name_places import CHARACTER, LINE, mark_box, place_names
from analysis.charts.parts.pareto_front import front, steps


def test_the_front_is_what_no_other_point_beats():
    points = [(3, 0.9), (1, 0.5), (2, 0.7), (2, 0.6), (4, 0.9), (1, 0.5), (5, 0.8)]
    assert front(points) == [1, 5, 2, 0]  # equal points both; (4, 0.9) costs more than (3, 0.9)
    line = [(1, 0.5), (1, 0.5), (1, 0.5), (2, 0.5), (2, 0.7), (3, 0.7), (3, 0.9), (9, 0.9)]
    assert steps(points, 9) == line
    assert front([]) == []
    assert steps([], 1) == []


def test_the_front_of_random_points_is_that_of_the_definition():
    draw = random.Random(0)
    points = [(draw.randint(1, 30), draw.randint(1, 30)) for _ in range(200)]

    def beaten(place: int) -> bool:
        cost, accuracy = points[place]
        return any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)

    assert sorted(front(points)) == [n for n in range(len(points)) if not beaten(n)]


def test_names_cover_no_other_name_and_stay_inside():
    draw = random.Random(1)
    wanted = [(f"net_{n}", draw.uniform(0, 580), draw.uniform(0, 360)) for n in range(60)]
    marks = [mark_box(x, y) for _, x, y in wanted]
    places = place_names(wanted, marks, (580, 360))
    boxes = [
        (x - CHARACTER * len(text) / 2, x + CHARACTER * len(text) / 2, y - LINE / 2, y + LINE / 2)
        for (text, _, _), place in zip(wanted, places, strict=True)
        if place is not None
        for x, y in [place]
    ]
    assert len(boxes) > 20
    for a, b in itertools.combinations(boxes, 2):
        assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
    assert all(left >= 0 and right <= 580 and below <= 360 for left, right, _, below in boxes)


@pytest.fixture
def two_sets(blank):
    """Twelve networks of 97 to 100 % on each of two data sets."""
    sweep = blank()
    for index, data in itertools.product(range(12), ("cifar10", "flowers")):
        planned = sweep.planned({"arch": f"net{index:02}", "dataset": data}, 0)
        columns = dict(trainable_params=1000 * 3**index, test_top1=0.97 + 0.03 * index / 11)
        sweep.store(sweep.trial(planned, **columns))
    sweep.write_plan()
    return connect(sweep.folder)


def test_each_data_set_has_a_plot_with_true_positions_and_no_impossible_accuracy(two_sets):
    spec = make_plot(two_sets, "accuracy-vs-params")
    assert [plot["title"]["text"] for plot in spec["concat"]] == ["cifar10", "flowers"]
    assert "xOffset" not in str(spec)
    ends = [
        layer["encoding"]["y"]["scale"]["domain"]
        for plot in spec["concat"]
        for layer in plot["layer"]
    ]
    assert all(0 <= low < high <= 100 for low, high in ends)
    points = [row for data in spec["datasets"].values() for row in data if "params" in row]
    assert {row["cost"] for row in points} == {1000 * 3**index for index in range(12)}
    assert all(row["front"] for row in points)  # each is more accurate than all that are smaller
