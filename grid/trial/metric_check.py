"""The user's own metrics tried on fixed predictions before anything runs; loads no torch here."""

from __future__ import annotations

from cnncore.config import METRICS
from grid.errors import SweepError
from grid.plan.plan import Plan
from grid.plan.resolve import Resolver
from grid.sweep.yaml_source import KeyPath


def check_metrics(plan: Plan) -> None:
    """Raise `SweepError` with every metric of the user's that cannot be used."""
    if problems := metric_problems(plan.resolver):
        position = plan.spec.source.position
        raise SweepError([f"{position(path)}: {text}" for path, text in problems])


def metric_problems(resolver: Resolver) -> list[tuple[KeyPath, str]]:
    """Call each metric of the user's twice, in a process of its own, with each count of classes.

    Return those that fail, return no finite number, or another one for the same predictions.
    """
    own = [name for name in resolver.metrics if name not in METRICS]
    counts = sorted({facts.class_count for facts in resolver.datasets().values()})
    requests = [
        {"check": "metric", "metric": name, "classes": classes}
        for name in own
        for classes in counts
    ]
    answers = resolver.code.answers(requests)
    problems = [
        (_path(resolver, str(request["metric"])), f"{request['metric']}: {answer['problem']}")
        for request, answer in zip(requests, answers, strict=True)
        if answer["problem"]
    ]
    return list(dict.fromkeys(problems))


def _path(resolver: Resolver, name: str) -> KeyPath:
    """Return the place of a metric in the sweep file."""
    if name in resolver.spec.metrics:
        return ("metrics", resolver.spec.metrics.index(name))
    return resolver.key_path("objective")
