"""The sub-command `debug`: one trial in this process; breakpoints work, and nothing is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.cli.options import Changes, DataDir, SkipUnreadable, Sweep, planned
from grid.errors import GridError
from grid.phrases import counted

if TYPE_CHECKING:
    from grid.plan.ids import Trial
    from grid.plan.plan import Plan
    from grid.trial.assignment import Assignment


def find_trial(plan: Plan, wanted: str | None) -> Trial:
    """A trial of the plan by its id (or how it starts) or its place from 0; the first by default.

    A tuned cell's trials are asked of a search that knows no results. Raises `GridError`.
    """
    from grid.search.sweep_search import Search

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


def debug_trial(assignment: Assignment, steps: int | None) -> Iterator[str]:
    """Train in small pieces, a line of text each; exceptions pass through untouched."""
    from cnncore.measure.evaluate import predict
    from cnncore.measure.metrics import classification_metrics
    from cnncore.training.state import chosen_model
    from cnncore.training.train import EpochResult, train
    from grid.trial.trial import open_trial

    trial = open_trial(assignment)
    config = assignment.trial.config
    yield (
        f"{config.arch} on {config.dataset}, {len(trial.splits.train)} training images, "
        f"{assignment.device}, {counted(assignment.threads, 'thread')}, "
        f"seed {assignment.trial.seed}"
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


def debug(
    sweep: Sweep,
    trial: Annotated[str | None, typer.Option(help="A trial's id, or its place from 0.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Run one trial in this process, without Ray; an exception opens the debugger."""
    import pdb
    import traceback

    from grid.api import default_data_dir
    from grid.cost.slots import pick_device
    from grid.trial.assignment import Assignment

    spec, plan_ = planned(sweep, change, data, skip_unreadable, download=True)
    assignment = Assignment(
        trial=find_trial(plan_, trial),
        sweep=spec.sweep,
        results="",
        data_dir=str(data or default_data_dir()),
        threads=spec.resources.cpus,
        device=pick_device(spec.resources),
        keep="none",
        keep_predictions="none",
        checkpoint_s=spec.checkpoint_s,
        git_commit=None,
        module_path=str(Path.cwd()),
        skip_unreadable=skip_unreadable,
    )
    try:
        for line in debug_trial(assignment, steps):
            print(line)
    except Exception as error:
        traceback.print_exc()
        if sys.stdin.isatty():
            pdb.post_mortem(error.__traceback__)
        sys.exit(1)
