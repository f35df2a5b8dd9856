"""A user's own SQL: answers, mistakes, and forbidden files."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from analysis import AnalysisError, ask
from analysis.results.sql_files import TABLES, needed

SQL_THAT_REACHES_OUT = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('{tiny}/sweep.yaml')",
    "SELECT * FROM read_parquet('{tiny}/trials/*.parquet')",
    "SELECT * FROM '{tiny}/sweep.yaml'",
    "SELECT * FROM glob('/*')",
    "COPY (SELECT 1) TO '{out}/x.csv'",
    "COPY (SELECT 1) TO '{tiny}/trials/x.parquet'",
    "ATTACH '{out}/x.db'",
    "EXPORT DATABASE '{out}/x'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x.csv'",
    "CREATE TABLE x AS SELECT * FROM read_csv('/etc/passwd')",
    "DROP VIEW best",
    "PRAGMA enable_profiling",
    "PIVOT read_csv('/etc/passwd') ON column0",
]


@pytest.mark.slow
@pytest.mark.parametrize("question", SQL_THAT_REACHES_OUT)
def test_a_question_can_neither_read_nor_write_files(tiny, tmp_path, question):
    before = sorted(path.name for path in tiny.rglob("*"))
    with pytest.raises(AnalysisError):
        ask(question.format(tiny=tiny, out=tmp_path), tiny)
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in tiny.rglob("*")) == before


@pytest.mark.slow
def test_ask_answers_questions_of_every_kind(tiny):
    answer = ask("SELECT arch, n, val_top1_mean FROM best ORDER BY arch, n LIMIT 2", tiny)
    assert answer.columns == ["arch", "n", "val_top1_mean"]
    assert answer.types == ["VARCHAR", "BIGINT", "DOUBLE"]
    assert [row[0] for row in answer.rows] == ["cnn3", "cnn3"]
    assert answer.warnings == []
    assert len(ask("DESCRIBE confusion", tiny).rows) == 6
    assert ask("SUMMARIZE SELECT n FROM confusion", tiny).rows[0][0] == "n"
    assert ask("EXPLAIN FROM best", tiny).rows
    assert ask("SELECT now() AS t", tiny).rows[0][0].year >= 2026
    assert (
        len(ask("PIVOT cells ON optimizer USING avg(val_top1_mean) GROUP BY arch", tiny).rows) == 3
    )
    assert ask("SELECT count(*) FROM query_table('confusion')", tiny).rows[0][0] > 0


@pytest.mark.slow
def test_ask_names_the_views_if_one_is_unknown(tiny):
    with pytest.raises(AnalysisError) as caught:
        ask("SELECT * FROM trails", tiny)
    assert str(caught.value).startswith(
        "there is no view trails (did you mean trials?); there are: best, "
    )
    with pytest.raises(AnalysisError, match="there is no view nothing_like_it; there are: best"):
        ask("SELECT * FROM nothing_like_it", tiny)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nonsense FROM best", "nonsense"),
        ("", "no SQL given"),
        ("SELECT 1; SELECT 2", "one question at a time"),
        ("DELETE FROM trials", "one question at a time"),
        ("SELECT 'x'::INTEGER", "Could not convert"),
    ],
)
def test_wrong_sql_gives_a_short_message(tiny, question, message):
    with pytest.raises(AnalysisError, match=message) as caught:
        ask(question, tiny)
    assert "Traceback" not in str(caught.value)


@pytest.mark.slow
def test_an_answer_is_written_as_parquet_with_its_types(tiny, tmp_path):
    answer = ask("SELECT arch, n, ended_at FROM trials JOIN best USING (arch) LIMIT 3", tiny)
    answer.write_parquet(tmp_path / "it's.parquet")
    table = pq.read_table(tmp_path / "it's.parquet")
    assert [str(type_) for type_ in table.schema.types] == ["string", "int64", "timestamp[us]"]
    assert table.num_rows == 3
    with pytest.raises(AnalysisError, match="cannot be written"):
        answer.write_parquet(tmp_path / "absent" / "x.parquet")


def test_only_tables_that_a_question_needs_are_read():
    assert needed("SELECT * FROM best") == ["trials"]
    assert needed("SELECT * FROM confusion") == ["confused"], "not ten million predictions"
    assert needed("SELECT predicted FROM predictions") == ["predictions"]
    assert "epochs" not in needed("SELECT epochs, trials.epochs FROM trials WHERE epochs > 3")
    assert "epochs" in needed("SELECT 1 FROM (SELECT a FROM trials ORDER BY a) AS t, epochs")
    assert "epochs" in needed("SELECT '(' FROM trials -- )\n, epochs WHERE ')' = (FROM metrics)")
    assert "metrics" in needed("WITH x AS (SELECT a FROM trials WHERE b) SELECT 1 FROM x, metrics")
    assert "epochs" in needed('FROM "Learning_Curves"')
    assert "predictions" not in needed("FROM pareto JOIN learning_curves USING (cell_id)")
    assert set(needed("FROM query_table('con' || 'fusion')")) == set(TABLES)
