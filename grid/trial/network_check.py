"""Every network of a plan, and what else is the user's own, tried before anything runs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cnncore.catalog import NETWORKS
from cnncore.config import NETWORK_KEYS, OPTIMIZERS, TrialConfig, network_options
from cnncore.config.optimizers import OPTIMIZER_KEYS
from grid.plan.class_weights import class_names
from grid.plan.plan import Plan, corners
from grid.plan.resolve import Resolver
from grid.sweep.yaml_source import KeyPath
from grid.trial.metric_check import metric_problems

# Options that may make a network of the catalog impossible; it is known to work with others.
DOUBTFUL = ("arch_options", "width", "depth")


@dataclass(frozen=True)
class Part:
    """One part of a config that can be tried: the key of the sweep file, and its name.

    `request` is equal for configs that are tried alike.
    """

    key: str
    name: str
    request: dict[str, Any]
    # Which number of classes it gets.
    dataset: str | None = None
    labels: str | None = None

    @property
    def identity(self) -> str:
        """The request as text."""
        return json.dumps([self.request, self.dataset, self.labels], sort_keys=True)


@dataclass
class TriedNetworks:
    """The problem of everything that was tried, or None, and remarks on it."""

    # By `Part.identity`.
    problems: dict[str, str | None] = field(default_factory=dict)
    # By name.
    notes: dict[str, list[str]] = field(default_factory=dict)
    # The problems of the variants of a network or function, by the config's key and its name.
    variants: dict[tuple[str, str], list[str | None]] = field(default_factory=dict)

    def problem(self, config: TrialConfig) -> str | None:
        """Return the problem of a config's network or own parts, None if none is known.

        If every variant that was tried has one, so have the others.
        """
        if not self.problems:
            return None
        for part in _parts(config):
            if part.identity in self.problems:
                problem = self.problems[part.identity]
            else:
                variants = self.variants.get((part.key, part.name)) or [None]
                problem = variants[0] if all(variants) else None
            if problem:
                return problem
        return None

    def placed_messages(self) -> list[tuple[str, str]]:
        """Return the problems as lines, one for each name and problem, with the config's key."""
        lines = []
        for (key, name), variants in self.variants.items():
            for problem in dict.fromkeys(filter(None, variants)):
                count = variants.count(problem)
                some = f" ({count} of its {len(variants)} variants)"
                text = problem.removeprefix(name).lstrip(": ")
                lines.append((key, f"{name}: {text}{some if count < len(variants) else ''}"))
        return lines

    def placed(self, resolver: Resolver) -> list[tuple[KeyPath, str]]:
        """Return the problems with their places in the sweep file."""
        return [(resolver.key_path(key), message) for key, message in self.placed_messages()]

    def messages(self) -> list[str]:
        """Return the problems as lines, one for each name and problem."""
        return [message for _, message in self.placed_messages()]

    def remarks(self) -> list[str]:
        """Return the remarks as lines."""
        return [f"{name}: {note}" for name, notes in self.notes.items() for note in notes]


def unfinished_configs(plan: Plan, finished: Collection[str]) -> Iterator[TrialConfig]:
    """Yield the configs of trials without a result; of a search, those at the axes' ends."""
    for trial in plan.trials:
        if trial.trial_id not in finished:
            yield trial.config
    if plan.spec.tune:
        for cell in plan.cells:
            for tuned in corners(plan.spec, cell.values):
                yield plan.resolver.resolve({**cell.values, **tuned})


def try_networks(plan: Plan, configs: Iterable[TrialConfig], device: str) -> TriedNetworks:
    """Build the network of every config, train it on two images and show it one.

    Networks of the catalog are known to work, unless an option makes it doubtful. A network that
    cannot be tried without values is tried on `device`. Optimizers, losses and epochs of the user's
    own are tried on tiny inputs.
    """
    return _tried(plan.resolver, configs, device)


def code_problems(resolver: Resolver, configs: Iterable[TrialConfig]) -> list[tuple[KeyPath, str]]:
    """Return the problems of the code of configs whose sweep has others, with their keys."""
    tried = _tried(resolver, configs, "cpu")
    return tried.placed(resolver) + metric_problems(resolver)


def _tried(
    resolver: Resolver,
    configs: Iterable[TrialConfig],
    device: str,
) -> TriedNetworks:
    parts: dict[str, Part] = {}
    requests: list[dict[str, Any]] = []
    for config in configs:
        new = [part for part in _parts(config) if part.identity not in parts]
        if not new:
            continue
        facts = resolver.facts_of(config)
        classes = class_names(config, facts.classes, facts.class_count)
        for part in new:
            parts[part.identity] = part
            more: dict[str, Any] = {"classes": len(classes), "device": device}
            if part.key == "arch" and device == "cuda" and config.deterministic:
                more["deterministic"] = True
            # An optimizer knows no images.
            more = {} if part.key == "optimizer" else more
            requests.append({**part.request, **more})
    answers = resolver.code.answers(requests)
    tried = TriedNetworks()
    for part, answer in zip(parts.values(), answers, strict=True):
        tried.problems[part.identity] = answer["problem"]
        tried.variants.setdefault((part.key, part.name), []).append(answer["problem"])
        notes = tried.notes.setdefault(part.name, [])
        notes += [note for note in answer["notes"] if note not in notes]
    return tried


def _parts(config: TrialConfig) -> Iterator[Part]:
    """Yield the parts of a config that are tried."""
    doubtful = any(getattr(config, name) is not None for name in DOUBTFUL)
    if config.arch not in NETWORKS or doubtful:
        request = {
            "check": "network",
            "arch": config.arch,
            "image_size": config.image_size,
            "options": network_options(config),
            "freeze": config.freeze is not None,
            "copied": config.select == "best" or config.ema is not None,
        }
        yield Part("arch", config.arch, request, config.dataset, config.labels)
    if config.optimizer not in OPTIMIZERS:
        names = {"optimizer", "optimizer_options", "decay_norm_bias", "lr", *OPTIMIZER_KEYS}
        keys = config.model_dump(mode="json", include=names, exclude_none=True)
        yield Part("optimizer", config.optimizer, {"check": "optimizer", "keys": keys})
    if isinstance(config.loss, str):
        request = {"check": "loss", "loss": config.loss}
        yield Part("loss", config.loss, request, config.dataset, config.labels)
    if config.train_epoch is not None:
        request = {"check": "train_epoch", "config": _of_two_epochs(config)}
        yield Part("train_epoch", config.train_epoch, request)


def _of_two_epochs(config: TrialConfig) -> dict[str, Any]:
    """Return the config of two tiny epochs, without what makes no difference to them."""
    parts = {"arch", "arch_options", "image_size", "dataset", "labels", "freeze", "train_epoch"}
    optimizer = {"optimizer", "optimizer_options", *OPTIMIZER_KEYS}
    more = {"precision", "ema", "deterministic"}
    content = config.model_dump(mode="json", include={*NETWORK_KEYS, *parts, *optimizer, *more})
    return {**content, "lr": 0.01, "weight_decay": 0.0, "epochs": 2}
