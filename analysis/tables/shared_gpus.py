"""What tables and figures of costs say of trials that shared their GPU."""

from __future__ import annotations

from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql


def shared_gpu_note(connection: Connection) -> str:
    """Return a sentence on the trials whose times do not count; empty if there are none."""
    (row,) = rows(connection, sql("questions/shared_gpus"))
    if not row["trials"]:
        return ""
    count = f"{row['trials']:,} of the trials"
    return (
        f"{count} shared a GPU with others (gpu_share below 1); times, latency and energy are of "
        "the trials that had a whole one."
    )
