"""The user's own metrics tried on fixed predictions before anything runs; loads no torch here."""

from __future__ import annotations

from cnncore.config import METRICS
from grid.errors import SweepError
from grid.plan.plan import Plan
from grid.sweep.yaml_source import KeyPath


def check_metrics(plan: Plan) -> None:
    """Call each metric of the user's twice, in a process of its own, with each count of classes.

    Raises `SweepError` with every metric that fails, returns no finite number, or returns another
    one for the same predictions.
    """
    own = [name for name in plan.metrics if name not in METRICS]
    counts = sorted({facts.class_count for facts in plan.resolver.datasets().values()})
    requests = [
        {"check": "metric", "metric": name, "classes": classes}
        for name in own
        for classes in counts
    ]
    answers = plan.resolver.code.answers(requests)
    problems = [
        f"{plan.spec.source.position(_path(plan, request['metric']))}: {request['metric']}: "
        f"{answer['problem']}"
        for request, answer in zip(requests, answers, strict=True)
        if answer["problem"]
    ]
    if problems:
        raise SweepError(list(dict.fromkeys(problems)))


def _path(plan: Plan, name: object) -> KeyPath:
    """Return the place of a metric in the sweep file."""
    if name in plan.spec.metrics:
        return ("metrics", plan.spec.metrics.index(str(name)))
    return plan.resolver.key_path("objective")
