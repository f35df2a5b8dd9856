"""Tables of significance: pairs over shared blocks, ranks over blocks, notes for captions."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql
from analysis.tables import statistics
from analysis.tables.cell_labels import Row, cell_axes, cell_label, cell_value, compact
from analysis.tables.measures import TEST_TOP1, Measure, default_measure
from analysis.tables.table_formats import MISSING, Column, Kind, Table, format_value

# Accuracies on other images, or of other classes, cannot be compared.
NOT_PAIRED = ("dataset", "labels")
# Values that are compared pair by pair, and that a note names of those not told apart; pairs of
# thousands would take minutes and gigabytes, and nobody reads them.
MOST_VALUES = 40
MOST_NAMED = 3  # pairs that a note names; of more pairs only the nearest
INSIDE = "inside the noise"
EQUAL = "equal in every block"

Block = tuple[Any, ...]


def blocks_of(connection: Connection, measure: Measure) -> list[Row]:
    """Return the complete trials of every cell's winner that have a value of the measure."""
    return rows(connection, sql("questions/blocks"), measure=measure.name)


def paired_axis(records: list[Row]) -> str | None:
    """Return the axis whose values are compared: the network, or the first that varies."""
    varying = [
        axis
        for axis in cell_axes(records)
        if axis not in NOT_PAIRED and len({value_name(row, axis) for row in records}) > 1
    ]
    return min(varying, key=lambda axis: axis != "arch", default=None)


def value_name(row: Row, axis: str) -> str:
    """Return a cell's value of an axis as short text."""
    value = cell_value(row, axis)
    return MISSING if value is None else compact(value)


def setting(row: Row, axis: str) -> Block:
    """Return the part of a row's cell that it shares with cells that differ in the axis alone."""
    cell = json.loads(row["cell"] or "{}")
    others = sorted((key, compact(value)) for key, value in cell.items() if key != axis)
    return (row["results"], row["dataset"], row["labels"], *others)


def paired(connection: Connection, measure: Measure | None = None) -> Table:
    """Make a row per pair of values of the compared axis: their difference over shared blocks."""
    measure = measure or default_measure(connection)
    records = blocks_of(connection, measure)
    axis = paired_axis(records)
    measured: dict[str, dict[Block, float]] = {}
    roles: dict[tuple[str, Block], str] = {}
    for row in records if axis else []:
        assert axis
        name = value_name(row, axis)
        block = (setting(row, axis), row["seed"], row["fold"])
        measured.setdefault(name, {})[block] = row["value"]
        if row["role"]:
            roles[name, block] = row["role"]
    means = {name: fmean(values.values()) for name, values in measured.items()}
    ordered = sorted(measured, key=lambda name: (-measure.score(means[name]), name))
    names = ordered[:MOST_VALUES]
    pairs = list(itertools.combinations(names, 2))
    answers = [over_shared(measured[a], measured[b]) for a, b in pairs]
    corrected = statistics.holm([answer.p for answer in answers])
    columns = [
        Column("a", "a"),
        Column("b", "b"),
        *([Column("role", "role")] if roles else []),
        *_paired_columns(measure),
    ]
    lines = []
    for (a, b), answer, p in zip(pairs, answers, corrected, strict=True):
        shared = measured[a].keys() & measured[b].keys()
        role = {roles[name, block] for name in (a, b) for block in shared if (name, block) in roles}
        lines.append(
            (
                *(a, b, *([", ".join(sorted(role)) or None] if roles else [])),
                *(answer.n, answer.mean_a, answer.mean_b),
                *(answer.difference, answer.low, answer.high, answer.effect),
                *(answer.p, answer.wilcoxon_p, p, verdict(a, b, answer, p, measure)),
            )
        )
    caption = _paired_caption(records, axis, len(pairs), measure)
    if len(names) < len(ordered):
        caption += f" Only the best {len(names)} of {len(ordered):,} values are paired."
    return Table("Paired comparison", caption, columns, lines)


def _paired_columns(measure: Measure) -> list[Column]:
    kind: Kind = "percent" if measure.kind == "percent" else "seconds"
    return [
        Column("n", "n", "count"),
        Column("mean_a", f"a, {measure.title}", kind),
        Column("mean_b", f"b, {measure.title}", kind),
        Column("difference", "a - b (points)" if kind == "percent" else "a - b", kind),
        Column("difference_low", "95 % from", kind),
        Column("difference_high", "to", kind),
        Column("effect", "effect", "seconds"),
        Column("p", "p", "probability"),
        Column("p_wilcoxon", "p (Wilcoxon)", "probability"),
        Column("p_holm", "p (Holm)", "probability"),
        Column("verdict", "verdict"),
    ]


def over_shared(a: dict[Block, float], b: dict[Block, float]) -> statistics.Paired:
    """Return the paired comparison of two sets of measurements, over the blocks that both have."""
    shared = [block for block in a if block in b]
    return statistics.paired([a[block] for block in shared], [b[block] for block in shared])


def verdict(a: str, b: str, answer: statistics.Paired, p: float | None, measure: Measure) -> str:
    """Return the verdict of a paired comparison in words; p is the corrected one."""
    if answer.n < 2:
        return "one shared block: no spread" if answer.n else "no shared block"
    if p is None:
        return "no spread: not tested" if answer.difference else EQUAL
    if p >= statistics.SIGNIFICANT:
        return INSIDE
    assert answer.difference is not None
    return f"{a if measure.score(answer.difference) > 0 else b} better"


def _paired_caption(records: list[Row], axis: str | None, pairs: int, measure: Measure) -> str:
    if not records:
        return "No trial is complete yet."
    if axis is None:
        return "Nothing to pair: no compared setting beside the data has two values."
    others = [*_varying(records, axis), "seed"]
    folded = any(row["fold"] is not None for row in records)
    parts = [
        f"{_capital(measure.sorting)} of every two values of {axis} over the n blocks that both "
        f"have; a block is one {' x '.join([*others, *(['fold'] if folded else [])])}. a - b with "
        "its 95 % t interval; effect: Cohen's d_z, the difference over the standard deviation of "
        f"the differences; p: paired t test; Wilcoxon: signed-rank test, from "
        f"{statistics.WILCOXON_FROM} blocks; Holm: p of the t test corrected for {pairs} "
        f"{'pair' if pairs == 1 else 'pairs'}. Inside the noise: p (Holm) of "
        f"{statistics.SIGNIFICANT:g} or more."
    ]
    if len(others) > 1 and len({row["seed"] for row in records}) > 1:
        parts.append(
            "Seeds of one setting are no evidence about another: the table ranking takes a "
            "setting once."
        )
    if folded:
        parts.append(
            "Folds share training images, so p is too small (Nadeau and Bengio, Machine Learning "
            "52, 2003)."
        )
    if any(row["role"] for row in records):
        parts.append(
            "Role: searched trials chose the config, confirmed ones retrained it on fresh seeds."
        )
    return " ".join(parts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _varying(records: list[Row], axis: str | None) -> list[str]:
    """Return the other axes in which the rows' cells differ."""
    names = [other for other in cell_axes(records) if other != axis]
    varying = [other for other in names if len({value_name(row, other) for row in records}) > 1]
    return [*(["results"] if len({row["results"] for row in records}) > 1 else []), *varying]


@dataclass(frozen=True)
class Ranked:
    """The values of an axis, best first, ranked over the settings that all of them have."""

    axis: str
    names: list[str]
    measure: Measure
    means: list[float]  # of the measure over the blocks, seeds averaged first
    ranking: statistics.Ranking
    block_axes: list[str]  # axes in which the blocks differ
    data_sets: int
    left_out: int  # settings without one of the values


def ranked(connection: Connection, measure: Measure | None = None) -> Ranked | None:
    """Rank the values of the compared axis; return None without two of them in one setting."""
    measure = measure or default_measure(connection)
    records = blocks_of(connection, measure)
    axis = paired_axis(records)
    if axis is None:
        return None
    measured: dict[Block, dict[str, list[float]]] = {}
    for row in records:
        values = measured.setdefault(setting(row, axis), {})
        values.setdefault(value_name(row, axis), []).append(row["value"])
    names = sorted({value_name(row, axis) for row in records})
    complete = {block: values for block, values in measured.items() if len(values) == len(names)}
    if not complete:
        return None
    means = [[fmean(values[name]) for name in names] for values in complete.values()]
    ranking = statistics.ranking([[measure.score(mean) for mean in block] for block in means])
    overall = [fmean(column) for column in zip(*means, strict=True)]
    order = sorted(
        range(len(names)),
        key=lambda i: (ranking.mean_ranks[i], -measure.score(overall[i]), names[i]),
    )
    return Ranked(
        axis,
        [names[i] for i in order],
        measure,
        [overall[i] for i in order],
        statistics.Ranking(
            ranking.n,
            [ranking.mean_ranks[i] for i in order],
            ranking.p,
            ranking.critical_difference,
        ),
        _varying(records, axis),
        len({block[:3] for block in complete}),
        len(measured) - len(complete),
    )


def ranking(connection: Connection, measure: Measure | None = None) -> Table:
    """Make a row per value of the compared axis: its mean rank over data sets and settings."""
    measure = measure or default_measure(connection)
    answer = ranked(connection, measure)
    columns = [
        Column("value", answer.axis if answer else "value"),
        Column("mean_rank", "mean rank", "seconds"),
        measure.column,
        Column("n", "blocks", "count"),
        Column("alike", "not told apart from"),
    ]
    if answer is None:
        nothing = "Nothing to rank: no two values of a compared setting have all else in common."
        return Table("Ranking", nothing, columns, [])
    lines = [
        (name, rank, mean, answer.ranking.n, _alike_text(_alike(answer, name)))
        for name, rank, mean in zip(
            answer.names, answer.ranking.mean_ranks, answer.means, strict=True
        )
    ]
    return Table("Ranking", _ranking_caption(answer), columns, lines)


def _alike_text(names: list[str]) -> str | None:
    """Return the values that are not told apart; of very many the number alone."""
    return f"{len(names):,} values" if len(names) > MOST_VALUES else ", ".join(names) or None


def _alike(answer: Ranked, name: str) -> list[str]:
    """Return the other values whose mean rank is nearer than the critical difference."""
    ranks = dict(zip(answer.names, answer.ranking.mean_ranks, strict=True))
    needed = answer.ranking.critical_difference
    return [
        other
        for other in answer.names
        if other != name and (needed is None or abs(ranks[other] - ranks[name]) < needed)
    ]


def _ranking_caption(answer: Ranked) -> str:
    ranking, k = answer.ranking, len(answer.names)
    block = " x ".join(answer.block_axes) or "data set"
    parts = [
        f"Mean rank by {answer.measure.sorting} over {ranking.n} "
        f"{'block' if ranking.n == 1 else 'blocks'} ({block}), 1 the best, seeds averaged first.",
        rank_test(ranking),
    ]
    if not ranking.enough:
        parts.append(
            f"Too few blocks: {k} values need {statistics.blocks_needed(k)} before any two can be "
            "told apart."
        )
    if answer.left_out:
        parts.append(f"Left out: {answer.left_out} in which a value is missing.")
    if answer.data_sets == 1 and ranking.n > 1:
        parts.append("All are of one data set: nothing is said about other data.")
    return " ".join(part for part in parts if part)


def rank_test(ranking: statistics.Ranking) -> str:
    """Return Friedman's p and the critical difference as a sentence; empty if there are none."""
    if ranking.critical_difference is None:
        return ""
    p = "all tie" if ranking.p is None else p_text(ranking.p)
    return (
        f"Friedman test: {p}; critical difference {ranking.critical_difference:.2f} "
        "(Nemenyi, 5 %, as in Demsar, 2006)."
    )


def p_text(p: float) -> str:
    """Return a p with its relation: `p = 0.041`, `p < 0.001`."""
    text = format_value(p, "probability")
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def noise_note(connection: Connection, measure: Measure) -> str:
    """Return a few sentences on the cells whose distance to the best one is inside the noise.

    Paired t tests over shared seeds and folds, against the cell of the data set with the best mean
    of the measure, with Holm's correction inside a data set.
    """
    records = blocks_of(connection, measure)
    axes = [
        axis for axis in cell_axes(records) if len({value_name(row, axis) for row in records}) > 1
    ]
    groups: dict[Block, dict[Block, dict[Block, float]]] = {}
    labels: dict[Block, str] = {}
    for row in records:
        cell = (row["results"], row["cell_id"])
        labels[cell] = cell_label(row, axes)
        data = groups.setdefault((row["results"], row["dataset"], row["labels"]), {})
        data.setdefault(cell, {})[row["seed"], row["fold"]] = row["value"]
    several = [
        sorted(cells.items(), key=lambda item: -measure.score(fmean(item[1].values())))
        for cells in groups.values()
        if len(cells) > 1
    ]
    if several and all(len(values) == 1 for cells in several for _, values in cells):
        return "n = 1: no spread over seeds, so no difference can be called real."
    near: list[tuple[float, str]] = []
    untested = 0
    for (best, top), *others in several:
        answers = [over_shared(top, values) for _, values in others]
        corrected = statistics.holm([answer.p for answer in answers])
        for (cell, _), answer, p in zip(others, answers, corrected, strict=True):
            result = verdict(labels[best], labels[cell], answer, p, measure)
            if result in (INSIDE, EQUAL):
                apart = abs(answer.difference or 0.0) * measure.factor
                distance = f"{apart:.2f} points" if measure.kind == "percent" else f"{apart:.3g}"
                evidence = f"({EQUAL if p is None else p_text(p)}, n = {answer.n})"
                both = f"{labels[best]} and {labels[cell]}"
                near.append((apart, f"{both}, {distance} apart {evidence}"))
            untested += p is None and result != EQUAL
    parts = []
    if near:
        named = len(near) if len(near) <= MOST_NAMED else 1
        more = len(near) - named
        nearest = sorted(near, key=lambda near_pair: near_pair[0])[:named]
        text = "; ".join(pair for _, pair in nearest) + (f"; and {more} more" if more > 0 else "")
        parts.append(
            f"Inside the noise of the best (paired t test over shared seeds, p by Holm): {text}."
        )
    if untested:
        parts.append(
            f"Not tested against the best: {untested} {'row' if untested == 1 else 'rows'} without "
            "two shared seeds or without spread."
        )
    return " ".join(parts)


def role_note(connection: Connection) -> str:
    """Return a sentence on the role of tuned cells' numbers; empty without such cells."""
    records = [row for row in blocks_of(connection, Measure(TEST_TOP1)) if row["role"]]
    axes = [
        axis for axis in cell_axes(records) if len({value_name(row, axis) for row in records}) > 1
    ]
    searched = dict.fromkeys(cell_label(row, axes) for row in records if row["role"] == "searched")
    if not records:
        return ""
    if not searched:
        return "Numbers of tuned cells are confirmed, on seeds that had no part in the choice."
    if all(row["role"] == "searched" for row in records):
        return "Numbers of tuned cells are searched, not confirmed on fresh seeds."
    return f"Numbers of tuned cells are confirmed, but searched in: {'; '.join(searched)}."
