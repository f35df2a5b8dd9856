"""Write `docs/studies.md` and its figures from the results kept under `docs/results/`.

A recorded run is `docs/runs/<name>.yaml`, its sweep file, `docs/runs/<name>.md`, prose without
numbers, and `docs/results/<name>/`, its results. No number of the document is written by hand.

    python docs/studies.py                  write the document and its figures again
    python docs/studies.py keep NAME ...    first copy results/NAME to docs/results/NAME
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from analysis import AnalysisError, connect, make_table, save_plot
from analysis.report.report import duration
from analysis.results.database import Connection
from analysis.tables.table_formats import Table, format_value, render
from grid.store.folder import Store

DOCS = Path(__file__).resolve().parent
# In the order of the document; tables and figures with nothing to show for a run are left out.
SHOWN_TABLES = (
    "reported",
    "comparison",
    "convergence",
    "training-time",
    "gap",
    "label-sets",
    "enhancement",
)
SHOWN_FIGURES = ("curves", "ablation", "confusion", "confusion-reported", "enhancement")

OPENING = """# The five studies, and other presets: recorded runs

Every section is one sweep, run exactly as given here: the command, the reductions against the
paper's protocol, the machine, and all resulting numbers. The sweep files are in [runs/](runs), the
results in [results/](results): `cnngrid sql docs/results/NAME "SELECT ..."` answers questions about
them. This file is written by `python docs/studies.py`.
"""


def kept() -> list[str]:
    """Return the recorded runs, sorted by name."""
    names = sorted(path.stem for path in (DOCS / "runs").glob("*.yaml"))
    return [name for name in names if (DOCS / "results" / name).is_dir()]


def document() -> str:
    """Return the text of `docs/studies.md`."""
    return "\n".join([OPENING, *(section(name) for name in kept())])


def section(name: str) -> str:
    """Return the section of a recorded run: prose, command, machine, tables and figures."""
    connection = connect(DOCS / "results" / name)
    parts = [(DOCS / "runs" / f"{name}.md").read_text(encoding="utf-8").rstrip()]
    parts.append(f"```\ncnngrid run docs/runs/{name}.yaml\n```")
    parts.append(provenance(connection))
    for table in SHOWN_TABLES:
        try:
            made = make_table(connection, table)
        except AnalysisError:
            continue
        if made.rows:
            made, notes = _shortened(made, connection) if table == "reported" else (made, "")
            parts.append(f"**{made.title}**\n\n{render(made, 'markdown').rstrip()}")
            parts.extend([notes] if notes else [])
    figures = [
        f"![{figure} of {name}](figures/{name}-{figure}.svg)"
        for figure in SHOWN_FIGURES
        if (DOCS / "figures" / f"{name}-{figure}.svg").is_file()
    ]
    return "\n\n".join([*parts, *figures]) + "\n"


def _shortened(table: Table, connection: Connection) -> tuple[Table, str]:
    """Return a table without the numbers of single classes, and its differences as notes."""
    found = connection.execute("SELECT DISTINCT class_name FROM reported").fetchall()
    classes = {name for (name,) in found if name is not None}
    names = [column.name for column in table.columns]
    what, differs = names.index("metric"), names.index("differs")
    notes: dict[str, int] = {}
    lines = []
    for row in table.rows:
        if row[what].rpartition(", ")[2] not in classes:
            note = notes.setdefault(row[differs], len(notes) + 1) if row[differs] else None
            lines.append((*row[:differs], note, *row[differs + 1 :]))
    columns = list(table.columns)
    columns[differs] = replace(columns[differs], kind="count")
    listed = [f"{number}. {text}." for text, number in notes.items()]
    left = f"{len(table.rows) - len(lines)} numbers of single classes are left out here."
    text = [*listed, *([f"\n{left}"] if len(lines) < len(table.rows) else [])]
    return replace(table, columns=columns, rows=lines), "\n".join(text)


def draw(name: str) -> None:
    """Write the figures of a recorded run."""
    connection = connect(DOCS / "results" / name)
    for figure in SHOWN_FIGURES:
        path = DOCS / "figures" / f"{name}-{figure}.svg"
        path.unlink(missing_ok=True)
        try:
            save_plot(connection, figure, path)
        except AnalysisError:
            continue


def keep(name: str) -> None:
    """Copy the results of a run: tables compacted, without checkpoints, logs and report."""
    source, target = Path("results") / name, DOCS / "results" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns("checkpoints", "logs", "report", "run")
    )
    Store(target).compact()


def provenance(connection: Connection) -> str:
    """Return a sentence for each machine and version that ran trials."""
    table = make_table(connection, "provenance")
    lines = []
    for row in table.rows:
        fact = {
            column.name: format_value(value, column.kind)
            for column, value in zip(table.columns, row, strict=True)
        }
        seconds = dict(zip([c.name for c in table.columns], row, strict=True))["wall_time_s"]
        noun = "trial" if fact["trials"] == "1" else "trials"
        lines.append(
            f"{fact['trials']} {noun} on {fact['device']}, threads of a trial: {fact['threads']}; "
            f"{duration(seconds)} of trial time in all, ended {fact['last_end']} UTC; "
            f"{fact['versions']}; commit {fact['git_commit']}."
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Keep the named results, draw, and write the document."""
    if arguments[:1] == ["keep"]:
        for name in arguments[1:]:
            keep(name)
    elif arguments:
        sys.exit(__doc__)
    for name in kept():
        draw(name)
    (DOCS / "studies.md").write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
