"""The number by which cells are compared: test top-1, or another that their trials have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.results.database import Connection, rows
from analysis.results.errors import AnalysisError, closest_hint
from analysis.results.sql_files import sql
from analysis.tables.cell_labels import Row
from analysis.tables.objectives import VAL_TOP1, kind_of, objectives, title_of
from analysis.tables.table_formats import Column, Kind, Spread

TEST_TOP1 = "test_top1"
# Beginnings of measures' names: the images that they are of.
SPLITS = ("train_", "val_", "test_")


@dataclass(frozen=True)
class Measure:
    """A number of the winners' trials, and which end of it is the better one."""

    name: str
    lower_is_better: bool = False

    @property
    def title(self) -> str:
        """Title of a column: `test top-1 (%)`, `test loss`, `test mine:cost`."""
        split, base = self._parts
        return f"{split} {title_of(base)}".strip()

    @property
    def axis_title(self) -> str:
        """Title of an axis: it says that less is better, as readers expect the opposite."""
        return self.title + (", lower is better" if self.lower_is_better else "")

    @property
    def words(self) -> str:
        """Name for a sentence: `test top-1`."""
        return self.title.removesuffix(" (%)")

    @property
    def sorting(self) -> str:
        """Name for a sentence on order, with the better end if it is the lower one."""
        return self.words + (" (lower is better)" if self.lower_is_better else "")

    @property
    def kind(self) -> Kind:
        """Kind of a column of it."""
        return kind_of(self._parts[1])

    @property
    def factor(self) -> float:
        """Factor from a value to what its title names."""
        return 100.0 if self.kind == "percent" else 1.0

    @property
    def column(self) -> Column:
        """Column of it."""
        return Column(self.name, self.title, self.kind)

    def score(self, value: float) -> float:
        """Return a value so that higher is better."""
        return -value if self.lower_is_better else value

    @property
    def _parts(self) -> tuple[str, str]:
        split = next((split for split in SPLITS if self.name.startswith(split)), "")
        return split.rstrip("_"), self.name.removeprefix(split)


def find_measure(connection: Connection, name: str | None) -> Measure:
    """Return the measure of a name, by default the one that follows the sweep's objective.

    `objective` is the objective itself, and a metric without a split that of the test images.
    Raises `AnalysisError` for a name that no trial has, with the closest one.
    """
    if name is None:
        return default_measure(connection)
    known = _known(connection)
    tried = [name, f"test_{name}"]
    if name == "objective":
        tried = [of if of.startswith("val_") else f"val_{of}" for of in objectives(connection)]
        if len(tried) > 1:
            texts = ", ".join(objectives(connection))
            raise AnalysisError(f"the cells have several objectives ({texts}): name one of them")
    for full in tried:
        if full in known:
            return known[full]
    hint = closest_hint(name, known)
    there = f"there are: {', '.join(known)}" if known else "no trial is complete yet"
    raise AnalysisError(f"no trial has a metric {name}{hint}; {there}")


def default_measure(connection: Connection) -> Measure:
    """Return test top-1, or what the one objective of all cells is on the test images."""
    names = objectives(connection)
    if len(names) == 1 and names[0] != VAL_TOP1:
        of_test = f"test_{names[0].removeprefix('val_')}"
        return _known(connection).get(of_test, Measure(TEST_TOP1))
    return Measure(TEST_TOP1)


def measured_cells(connection: Connection, measure: Measure) -> dict[tuple[str, str], Spread]:
    """Return mean and standard deviation of a measure over each winner's trials.

    By results folder and cell; cells without a value are left out.
    """
    return {
        (row["results"], row["cell_id"]): Spread(row["value_mean"], row["value_sd"])
        for row in rows(connection, sql("questions/measured_cells"), measure=measure.name)
        if row["value_mean"] is not None
    }


def best_first(
    records: Iterable[Row], measure: Measure, values: dict[tuple[str, str], Spread]
) -> list[Row]:
    """Return rows of cells, the best by a measure first, those without a value last."""

    def place(row: Row) -> tuple[bool, float]:
        spread = values.get((row["results"], row["cell_id"]))
        mean = spread.mean if spread else None
        return (mean is None, 0.0 if mean is None else -measure.score(mean))

    return sorted(records, key=place)


def _known(connection: Connection) -> dict[str, Measure]:
    return {
        row["measure"]: Measure(row["measure"], row["lower_is_better"])
        for row in rows(connection, sql("questions/measures"))
    }
