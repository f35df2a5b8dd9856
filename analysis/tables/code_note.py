"""A sentence for captions: trials of one name that ran different code of the user's own."""

from __future__ import annotations

import json
import re
from collections import defaultdict

from analysis.results.database import Connection, rows
from analysis.results.sql_files import sql


def code_note(connection: Connection) -> str:
    """Return a sentence on each name whose complete trials ran several versions; else empty.

    Versions that the cells themselves name (`nets:tiny@3fa2`) are told apart by that.
    """
    versions: dict[str, set[str]] = defaultdict(set)
    for row in rows(connection, sql("questions/code_versions")):
        for name, fingerprint in json.loads(row["code"]).items():
            named = re.search(rf"{re.escape(name)}@[0-9a-f]+", row["cell"] or "")
            versions[named.group() if named else name].add(fingerprint)
    return " ".join(
        f"{name}: trials ran {len(found)} versions of its code "
        f"({', '.join(sorted(item[:4] for item in found))}); `cnngrid code RESULTS TRIAL --diff "
        "OTHER` shows the difference."
        for name, found in sorted(versions.items())
        if len(found) > 1
    )
