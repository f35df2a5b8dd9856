"""Write `docs/tuned-comparison.md` and its figures from `docs/results/tuned-comparison/`.

No number of the document is written by hand; prose is in `docs/runs/tuned-comparison.md`, and what
`cnngrid plan` said before the run in `docs/runs/tuned-comparison.plan.txt`.

    cnngrid plan tuned-comparison > docs/runs/tuned-comparison.plan.txt     before the run
    python docs/tuned_comparison.py         write the document and its figures again
    python docs/tuned_comparison.py keep    first copy results/tuned-comparison to docs/results
"""

from __future__ import annotations

import sys

from studies import DOCS, keep, provenance

from analysis import AnalysisError, connect, make_table, save_plot
from analysis.report.report import duration
from analysis.results.database import Connection
from analysis.results.query import ask
from analysis.tables.table_formats import answer_table, render

NAME = "tuned-comparison"
FIGURES = {
    "accuracy-vs-params": "Test top-1 against parameters, with the Pareto front of each data set",
    "accuracy-vs-epoch-time": "Test top-1 against training time per epoch",
    "epoch-time-vs-params": "Training time per epoch against parameters",
    "lr-sensitivity": "Validation top-1 of every config over its learning rate",
}
TABLES = {
    "comparison": "Every cell's winner, trained again on five fresh seeds that had no part in the "
    "choice, so these numbers are free of selection.",
    "ranking": "",
    "paired": "",
}
# What a reader would ask next: question and SQL.
QUESTIONS = {
    "What did early stopping save?": """
SELECT arch, optimizer, dataset, count(*) AS configs,
       count(*) FILTER (state = 'pruned') AS ended_early,
       sum(epochs_run) AS epochs_run, sum(epochs) AS without_stopping,
       round(1 - sum(epochs_run) / sum(epochs), 2) AS saved
FROM trials WHERE role = 'searched'
GROUP BY ALL ORDER BY dataset, arch, optimizer""",
    "How much too good was the score that chose the winner?": """
SELECT fresh.arch, fresh.optimizer, fresh.dataset,
       round(100 * chosen.val_top1_mean, 2) AS val_when_chosen,
       round(100 * fresh.val_top1_mean, 2) AS val_confirmed,
       round(100 * fresh.test_top1_mean, 2) AS test_confirmed
FROM cells AS fresh
JOIN cells AS chosen USING (cell_id, config_id)
WHERE fresh.role = 'confirmed' AND chosen.role = 'searched'
ORDER BY dataset, arch, optimizer""",
    "How far apart are SGD and Adam once both are tuned?": """
SELECT dataset, arch,
       round(100 * avg(test_top1) FILTER (optimizer = 'sgd'), 2) AS sgd,
       round(100 * avg(test_top1) FILTER (optimizer = 'adam'), 2) AS adam,
       round(100 * (avg(test_top1) FILTER (optimizer = 'adam')
                  - avg(test_top1) FILTER (optimizer = 'sgd')), 2) AS adam_less_sgd
FROM trials WHERE role = 'confirmed' AND state = 'complete'
GROUP BY ALL ORDER BY dataset, arch""",
}


def document() -> str:
    """Return the text of `docs/tuned-comparison.md`."""
    connection = connect(DOCS / "results" / NAME)
    prose = (DOCS / "runs" / f"{NAME}.md").read_text(encoding="utf-8").rstrip()
    parts = [prose, f"```\ncnngrid run {NAME}\n```", provenance(connection), _estimate(connection)]
    parts.append("## What came out")
    for name, title in FIGURES.items():
        if (DOCS / "figures" / f"{NAME}-{name}.svg").is_file():
            parts.append(f"![{title}](figures/{NAME}-{name}.svg)")
    for name, note in TABLES.items():
        table = make_table(connection, name)
        title = f"**{table.title}**" + (f" {note}" if note else "")
        parts.append(f"{title}\n\n{render(table, 'markdown').rstrip()}")
    parts.append(
        "## Questions\n\nEach answer is what `cnngrid sql docs/results/tuned-comparison` prints."
    )
    for question, query in QUESTIONS.items():
        answer = render(answer_table(ask(query, DOCS / "results" / NAME)), "markdown").rstrip()
        parts.append(f"### {question}\n\n```sql\n{query.strip()}\n```\n\n{answer}")
    return "\n\n".join(parts) + "\n"


def _estimate(connection: Connection) -> str:
    """Return what the plan said beside what the run took."""
    said = (DOCS / "runs" / f"{NAME}.plan.txt").read_text(encoding="utf-8").strip()
    row = connection.execute(
        "SELECT count(*), sum(epochs_run), sum(wall_time_s) FROM trials"
    ).fetchone()
    assert row is not None
    trials, epochs, seconds = row
    return (
        f"`cnngrid plan {NAME}` said, as an upper bound without early stopping:\n\n"
        f"```\n{said}\n```\n\n"
        f"The run trained {trials} trials for {epochs:,} epochs; the sum of their wall times is "
        f"{duration(seconds)}."
    )


def draw() -> None:
    """Write the figures."""
    connection = connect(DOCS / "results" / NAME)
    for figure in FIGURES:
        path = DOCS / "figures" / f"{NAME}-{figure}.svg"
        path.unlink(missing_ok=True)
        try:
            save_plot(connection, figure, path)
        except AnalysisError:
            continue


def main(arguments: list[str]) -> None:
    """Keep the results if asked, draw, and write the document."""
    if arguments == ["keep"]:
        keep(NAME)
    elif arguments:
        sys.exit(__doc__)
    draw()
    (DOCS / f"{NAME}.md").write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
