"""What is left of a faulty sweep file without its faults, so that the rest is checked with them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from cnncore.config import TrialConfig
from grid.sweep.checks import closest_key
from grid.sweep.config_keys import required_keys
from grid.sweep.spec import SweepSpec
from grid.sweep.yaml_source import KeyPath, Source

# Values for required keys that are absent or faulty: with them no other setting is a problem.
STAND_INS = {"lr": 0.01, "epochs": 10_000}
# Keys of a config that no other key's check looks at, so that they can be left out.
INDEPENDENT = (
    *("lr", "epochs", "batch_size", "eval_batch_size", "momentum", "weight_decay", "schedule"),
    *("warmup_epochs", "ema", "grad_clip", "precision", "select", "normalize", "tta"),
)


def sound_part(data: dict[Any, Any], faults: Iterable[KeyPath], source: Source) -> SweepSpec | None:
    """Return the sweep without its faults; None if other problems might only follow from that."""
    rest = copy.deepcopy(data)
    faults = set(faults)
    if not all(_can_go(data, path) for path in faults):
        return None
    for path in sorted(faults, key=_last_items_first):
        _remove(rest, path)
    fixed = rest.setdefault("fixed", {})
    tune = rest.get("tune") or {}
    if not isinstance(fixed, dict) or not isinstance(tune, dict):
        return None
    given = {*fixed, *(rest.get("compare") or {}), *(tune.get("axes") or {})}
    if needed := set(required_keys()) - given - {*STAND_INS}:
        given_by_rules = {key for rule in rest.get("rules") or () for key in rule.get("set") or ()}
        if needed - given_by_rules:
            return None
    fixed.update({key: value for key, value in STAND_INS.items() if key not in given})
    try:
        spec = SweepSpec.model_validate(rest)
    except ValidationError:
        return None
    spec._source = source
    return spec


def _can_go(data: dict[Any, Any], path: KeyPath) -> bool:
    """Check whether what is at a path can be left out without a new problem elsewhere."""
    section, *keys = path or ("",)
    if section == "compare" and len(keys) == 2:  # one of several values
        return not data.get("exclude") and not data.get("rules")
    if section == "fixed" and keys:
        key = str(keys[0])
        meant = key if key in TrialConfig.model_fields else closest_key(key)
        return meant is None or meant in INDEPENDENT
    if section in SweepSpec.model_fields:
        # `tune.drop` is checked against the seeds.
        alone = () if data.get("tune") else ("seeds",)
        return section in ("metrics", "keep", "resources", "checkpoint_s", "disk_gib", *alone)
    return bool(path)


def _last_items_first(path: KeyPath) -> tuple[int, int]:
    """Return a sort key that removes items of a list from its end."""
    return (0, -path[-1]) if isinstance(path[-1], int) else (1, 0)


def _remove(data: Any, path: KeyPath) -> None:
    """Remove a key of the top level or of `fixed` as a whole, or one item of a list."""
    top, *below = path
    if top == "compare":
        del data[top][below[0]][below[1]]
    elif top == "fixed":
        data[top].pop(below[0], None)
    else:
        data.pop(top, None)
