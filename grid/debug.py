"""One trial in this process: breakpoints work, and nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from grid.errors import GridError
from grid.ids import Trial
from grid.job import Job
from grid.plan import Plan
from grid.progress import counted
from grid.search import Search
from grid.trial import open_trial


def find_trial(plan: Plan, wanted: str | None) -> Trial:
    """A trial of the plan by its id (or how it starts) or its place from 0; the first by default.

    A tuned cell's trials are asked of a search that knows no results. Raises `GridError`.
    """
    search = Search(plan, None, {})
    trials = list(islice(iter(search.next, None), 10_000))
    if wanted is None:
        return trials[0]
    if wanted.isdigit() and int(wanted) < len(trials):
        return trials[int(wanted)]
    found = [trial for trial in trials if trial.trial_id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise GridError(
        f"--trial {wanted}: {'several trials start so' if found else 'no such trial'}; give an id "
        f"that `cnngrid plan` lists, or a place from 0 to {len(trials) - 1}"
    )


def debug_trial(job: Job, steps: int | None) -> Iterator[str]:
    """Train in small pieces, a line of text each; exceptions pass through untouched."""
    from cnncore.evaluate import predict
    from cnncore.metrics import classification_metrics
    from cnncore.state import chosen_model
    from cnncore.train import EpochResult, train

    trial = open_trial(job)
    config = job.trial.config
    yield (
        f"{config.arch} on {config.dataset}, {len(trial.splits.train)} training images, "
        f"{job.device}, {counted(job.threads, 'thread')}, seed {job.trial.seed}"
    )
    events = train(trial.state, trial.splits, config, pause_s=0.0)
    for step, event in enumerate(events, start=1):
        if isinstance(event, EpochResult):
            yield (
                f"epoch {event.epoch}/{config.epochs}: train loss {event.train_loss:.4f}, "
                f"train top-1 {event.train_top1:.4f}, val loss {event.val_loss:.4f}, "
                f"val top-1 {event.val_top1:.4f}, {event.train_images_per_s:,.0f} images/s"
            )
        else:
            yield f"epoch {event.epoch} step {event.step}"
        if step == steps:
            return
    predictions = predict(
        chosen_model(trial.state),
        trial.splits.test.batches(),
        precision=config.precision,
        device=trial.device,
    )
    test = classification_metrics(*predictions)
    yield f"test top-1 {test.top1:.4f}, test loss {test.loss:.4f}"
