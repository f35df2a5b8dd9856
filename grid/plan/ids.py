"""Ids: hashes of a trial's config as canonical JSON, and the trial that carries them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from cnncore.config import TrialConfig
from grid.code.sources import NAME
from grid.code.stored import base_name

Role = Literal["searched", "confirmed"]


@dataclass(frozen=True)
class Trial:
    """One config with one seed, and one of `folds` folds if there are any, trained once."""

    trial_id: str
    config_id: str
    lineage_id: str | None
    cell_id: str
    config: TrialConfig
    seed: int
    fold: int | None = None
    folds: int | None = None
    role: Role = "searched"
    suggestion: int | None = None


def make_trial(
    config: TrialConfig,
    seed: int,
    cell_id: str,
    *,
    role: Role = "searched",
    suggestion: int | None = None,
    fold: int | None = None,
    folds: int | None = None,
) -> Trial:
    """Make a trial and compute its ids."""
    content = identity(config)
    part = {} if fold is None else {"fold": fold, "folds": folds}
    return Trial(
        trial_id=digest({"config": content, "seed": seed, **part}),
        config_id=digest(content),
        lineage_id=_lineage_id(config, content),
        cell_id=cell_id,
        config=config,
        seed=seed,
        fold=fold,
        folds=folds,
        role=role,
        suggestion=suggestion,
    )


# Kinds of data sets whose names are paths.
BY_CONTENT = ("csv:", "imagefolder:", "parquet:")


def identity(config: TrialConfig) -> dict[str, Any]:
    """Return the hashed content: every key that is not null, folders and files by content."""
    content: dict[str, Any] = _without_nulls(config.model_dump(mode="json"))
    if prefix := content_prefix(config.dataset):
        content["dataset"] = f"{prefix}{content.pop('data_fingerprint')}"
    if config.pretrained_fingerprint is not None:
        content["pretrained"] = content.pop("pretrained_fingerprint")
    if config.code_fingerprint is not None:
        content = without_versions(content)
    return content


def without_versions(value: Any) -> Any:
    """Return JSON data with `nets:tiny` for `nets:tiny@3fa2`: the fingerprint tells the version."""
    if isinstance(value, dict):
        return {without_versions(key): without_versions(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_versions(item) for item in value]
    if isinstance(value, str) and NAME.fullmatch(value):
        return base_name(value)
    return value


def content_prefix(dataset: str) -> str:
    """Return the prefix of a data set that counts by its content, not its path; "" of others."""
    return next((prefix for prefix in BY_CONTENT if dataset.startswith(prefix)), "")


def digest(content: Any) -> str:
    """Hash canonical JSON (keys sorted, no spaces, ASCII): first 12 hex digits of SHA-256."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# Schedules whose learning rate at an epoch does not depend on how many epochs there will be.
BUDGET_FREE_SCHEDULES = ("constant", "step", "restarts", "plateau", "exponential")


def _lineage_id(config: TrialConfig, content: dict[str, Any]) -> str | None:
    """Hash a config without its epochs; None if its learning rates depend on them."""
    if config.schedule.kind not in BUDGET_FREE_SCHEDULES:
        return None
    return digest({key: value for key, value in content.items() if key != "epochs"})


def config_json(config: TrialConfig) -> str:
    """Return the resolved config as it is stored: JSON of every key that is not null."""
    return json.dumps(_without_nulls(config.model_dump(mode="json")))


def plain(value: Any) -> Any:
    """Convert a value to plain JSON data."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
