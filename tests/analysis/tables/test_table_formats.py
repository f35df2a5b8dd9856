"""Tables as text: their values, and that no text in a cell can break out of it."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from analysis import AnalysisError, ask
from analysis.tables.table_formats import (
    FORMATS,
    Column,
    Spread,
    Table,
    answer_table,
    format_value,
    render,
)

HOSTILE = "<script>alert('x')</script>|a&b_c%d#e$f{g}~h^i\\j\n`k`*\"l\""
TABLE = Table(
    "Title with 100 %",
    "Caption <b> & 5 %",
    [Column("arch", "arch"), Column("test_top1", "test top-1 (%)", "percent")],
    [(HOSTILE, Spread(0.5, 0.25)), ("plain", Spread(0.123456, None)), (None, Spread(None, None))],
)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.91234, "percent", "91.23"),
        (Spread(0.91234, 0.0051), "percent", "91.23 ± 0.51"),
        (Spread(0.91234, None), "percent", "91.23"),
        (Spread(None, None), "percent", "–"),  # noqa: RUF001
        (11181642, "count", "11,181,642"),
        (1_234_567, "quantity", "1.23 M"),
        (999_999, "quantity", "1 M"),
        (37, "quantity", "37"),
        (1.9e9, "quantity", "1.9 G"),
        (0.0123456, "seconds", "0.0123"),
        (12.3456, "seconds", "12.3"),
        (1234.5, "seconds", "1234"),
        (Spread(12.34, 0.56), "seconds", "12.3 ± 0.6"),
        (0.0001, "number", "0.0001"),
        (None, "count", "–"),  # noqa: RUF001
        (math.nan, "percent", "NaN"),
        (math.inf, "seconds", "inf"),
        ("two\nlines\t\x1b[31m", "text", "two lines  [31m"),
        (True, "text", "true"),
        ([1, 2], "text", "[1, 2]"),
    ],
)
def test_values_are_formatted(value, kind, text):
    assert format_value(value, kind) == text


def test_markdown_keeps_hostile_text_in_its_cell():
    lines = render(TABLE, "markdown").splitlines()
    assert lines[0] == "| arch | test top-1 (%) |"
    assert lines[1] == "| --- | ---: |"
    assert "<script" not in lines[2]
    assert lines[2].replace("\\|", "").count("|") == 3
    assert lines[2].endswith(" | 50.00 ± 25.00 |")
    assert len(lines) == 7


def test_latex_escapes_everything():
    text = render(TABLE, "latex")
    assert r"\toprule" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"a\&b\_c\%d\#e\$f\{g\}\textasciitilde{}h\textasciicircum{}i\textbackslash{}j" in text
    assert r"50.00 $\pm$ 25.00 \\" in text
    assert r"\caption{Title with 100 \%. Caption \textless{}b\textgreater{} \& 5 \%}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    body = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}"
        f"{render(TABLE, 'latex')}\\end{{document}}"
    )
    (tmp_path / "t.tex").write_text(body)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_csv_holds_raw_values():
    csv_rows = list(csv.reader(io.StringIO(render(TABLE, "csv"))))
    assert csv_rows[0] == ["arch", "test_top1_mean", "test_top1_sd"]
    assert csv_rows[1] == [HOSTILE, "0.5", "0.25"]
    assert csv_rows[2] == ["plain", "0.123456", ""]
    assert csv_rows[3] == ["", "", ""]


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_html_escapes_everything():
    text = render(TABLE, "html")
    cells = Cells()
    cells.feed(text)
    assert set(cells.tags) == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert HOSTILE.replace("\n", " ") in cells.texts
    assert 'data-sort="0.5"' in text


def test_json_holds_raw_values_and_no_nan():
    table = Table(
        "", "", [Column("a", "a"), Column("t", "t")], [(math.nan, datetime(2026, 1, 1, tzinfo=UTC))]
    )
    assert json.loads(render(table, "json")) == [{"a": None, "t": "2026-01-01T00:00:00+00:00"}]
    assert json.loads(render(TABLE, "json"))[0]["test_top1"] == {"mean": 0.5, "sd": 0.25}


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_without_rows_is_a_table(format):
    assert render(Table("t", "nothing", [Column("a", "a")], []), format).strip()


def test_unknown_format_names_the_known_ones():
    with pytest.raises(AnalysisError, match="unknown format excel; there are: csv, html, json"):
        render(TABLE, "excel")


def test_answers_are_tables_too(tiny):
    question = (
        "SELECT arch, n, val_top1_sd, {'a': [1, NULL]} AS nested, ended_at "
        "FROM best JOIN trials USING (arch) LIMIT 3"
    )
    table = answer_table(ask(question, tiny))
    assert [column.right for column in table.columns] == [False, True, True, False, False]
    for format in FORMATS:
        assert render(table, format), format
