"""A table as a value, and its forms: text for a terminal, Markdown, LaTeX, CSV, HTML, JSON."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from analysis.results.errors import AnalysisError
from analysis.results.query import Answer

Kind = Literal["text", "count", "percent", "quantity", "number", "seconds", "probability"]
MISSING = "\N{EN DASH}"


@dataclass(frozen=True)
class Spread:
    """A mean over replicates and their standard deviation, None below two.

    `kind` is for a column whose rows are of several kinds.
    """

    mean: float | None
    sd: float | None = None
    kind: Kind | None = None


@dataclass(frozen=True)
class Column:
    """A column: `name` carries the unit of the raw value, `title` that of the text."""

    name: str
    title: str
    kind: Kind = "text"

    @property
    def right(self) -> bool:
        """Return whether the column is aligned right."""
        return self.kind != "text"


@dataclass(frozen=True)
class Table:
    """Rows of raw values, and the columns that format them."""

    title: str
    caption: str
    columns: list[Column]
    rows: list[tuple[Any, ...]]

    def titles(self) -> list[str]:
        """Return the columns' titles."""
        return [column.title for column in self.columns]

    def text_rows(self) -> list[list[str]]:
        """Return the rows as text."""
        return [
            [
                format_value(value, column.kind)
                for value, column in zip(row, self.columns, strict=True)
            ]
            for row in self.rows
        ]


def format_value(value: Any, kind: Kind) -> str:
    """Format a value for a table: fractions in percent, counts whole, the rest in 3 digits."""
    if isinstance(value, Spread):
        return _format_spread(value, value.kind or kind)
    if value is None:
        return MISSING
    if isinstance(value, list) and kind != "text":
        return ", ".join(format_value(each, kind) for each in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _one_line(value if isinstance(value, str) else json.dumps(value, default=str))
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if kind == "percent":
        return f"{value * 100:.2f}"
    if kind == "count":
        return f"{value:,.0f}"
    if kind == "quantity":
        return _with_prefix(value)
    if kind == "seconds":
        return f"{value:.{_decimals(value)}f}"
    if kind == "probability":
        return f"{value:.3f}" if value >= 0.0005 else "< 0.001"
    return str(value) if isinstance(value, int) else f"{value:g}"


def _format_spread(value: Spread, kind: Kind) -> str:
    if value.mean is None:
        return MISSING
    if value.sd is None:
        return format_value(value.mean, kind)
    if kind == "percent":
        return f"{value.mean * 100:.2f} ± {value.sd * 100:.2f}"
    decimals = _decimals(value.mean)
    return f"{value.mean:.{decimals}f} ± {value.sd:.{decimals}f}"


def _decimals(value: float) -> int:
    """Return the number of decimals that show three digits of a value, at most four."""
    if value == 0 or not math.isfinite(value):
        return 0
    return min(4, max(0, 2 - math.floor(math.log10(abs(value)))))


def _with_prefix(value: float) -> str:
    """Format a value with three digits and k, M or G: `1.23 M`."""
    for factor, prefix in ((1.0, ""), (1e3, " k"), (1e6, " M")):
        rounded = float(f"{value / factor:.3g}")
        if abs(rounded) < 1000:
            return f"{rounded:g}{prefix}"
    return f"{value / 1e9:.3g} G"


def _one_line(text: str) -> str:
    """Replace line breaks and control characters, so that text stays in its cell."""
    return "".join(char if char.isprintable() else " " for char in text)


def markdown(table: Table) -> str:
    """Return the table as GitHub-flavoured Markdown, its caption below."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rule = ["---:" if column.right else "---" for column in table.columns]
    lines = [line([_markdown_text(title) for title in table.titles()]), line(rule)]
    lines += [line([_markdown_text(cell) for cell in row]) for row in table.text_rows()]
    if table.caption:
        lines += ["", _markdown_text(table.caption)]
    return "\n".join(lines) + "\n"


def _markdown_text(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    MISSING: "--",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "·": r"$\cdot$",
}


def latex(table: Table) -> str:
    """Return the table as a LaTeX `table` in the style of the package booktabs."""

    def line(cells: list[str]) -> str:
        return " & ".join("".join(LATEX.get(char, char) for char in cell) for cell in cells)

    columns = "".join("r" if column.right else "l" for column in table.columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        f"{line(table.titles())} \\\\",
        "\\midrule",
        *(f"{line(row)} \\\\" for row in table.text_rows()),
        "\\bottomrule",
        "\\end{tabular}",
        f"\\caption{{{line([f'{table.title}. {table.caption}'])}}}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """Return the table's raw values as CSV: fractions stay fractions, a spread is two columns."""
    header: list[str] = []
    spread = [
        any(isinstance(row[index], Spread) for row in table.rows)
        for index in range(len(table.columns))
    ]
    for column, two in zip(table.columns, spread, strict=True):
        header += [f"{column.name}_mean", f"{column.name}_sd"] if two else [column.name]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        cells: list[Any] = []
        for value, two in zip(row, spread, strict=True):
            if isinstance(value, Spread):
                cells += [_raw(value.mean), _raw(value.sd)]
            else:
                cells += [_raw(value), ""] if two else [_raw(value)]
        writer.writerow(cells)
    return text.getvalue()


def _raw(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (dict, list, bool)):
        return json.dumps(value, default=str)
    return value.isoformat() if isinstance(value, datetime) else value


_RIGHT = ' class="num"'


def to_html(table: Table) -> str:
    """Return the table as an HTML `table` element without styles, everything escaped.

    Cells of numbers carry the raw value as `data-sort`.
    """
    head = "".join(
        f"<th{_RIGHT if column.right else ''}>{html.escape(column.title)}</th>"
        for column in table.columns
    )
    lines = [
        "".join(map(_html_cell, raw, text, table.columns))
        for raw, text in zip(table.rows, table.text_rows(), strict=True)
    ]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    caption = f"<caption>{html.escape(table.caption)}</caption>"
    thead = f"<thead><tr>{head}</tr></thead>"
    return f"<table>\n{caption}\n{thead}\n<tbody>\n{body}\n</tbody>\n</table>\n"


def _html_cell(raw: Any, text: str, column: Column) -> str:
    if not column.right:
        return f"<td>{html.escape(text)}</td>"
    value = raw.mean if isinstance(raw, Spread) else raw
    key = f' data-sort="{value}"' if isinstance(value, (int, float)) else ""
    return f"<td{_RIGHT}{key}>{html.escape(text)}</td>"


def to_json(table: Table) -> str:
    """Return the table's raw values as a JSON list of objects; NaN is null."""
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, map(_jsonable, row), strict=True)) for row in table.rows]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _jsonable(value: Any) -> Any:
    if isinstance(value, Spread):
        return {"mean": _jsonable(value.mean), "sd": _jsonable(value.sd)}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(each) for each in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)


FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": to_csv,
    "html": to_html,
    "json": to_json,
}


def render(table: Table, format: str) -> str:
    """Return the table as text in one of `FORMATS`."""
    if format not in FORMATS:
        raise AnalysisError(f"unknown format {format}; there are: {', '.join(sorted(FORMATS))}")
    return FORMATS[format](table)


def answer_table(answer: Answer) -> Table:
    """Return a question's answer as a table."""
    columns = [
        Column(name, name, "number" if _is_numeric(type_) else "text")
        for name, type_ in zip(answer.columns, answer.types, strict=True)
    ]
    return Table("", "", columns, answer.rows)


def _is_numeric(type_: str) -> bool:
    return bool(re.match(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL)", type_))
