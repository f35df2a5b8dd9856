"""The sub-command `debug`: one trial in this process. Breakpoints work, nothing is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grid.cli.options import Changes, DataDir, ResultsDir, SkipUnreadable, Sweep, plan_sweep
from grid.errors import GridError
from grid.phrases import counted, validation_text
from grid.screen import print

if TYPE_CHECKING:
    from grid.plan.ids import Trial
    from grid.plan.plan import Plan


def find_trial(plan: Plan, name: str | None) -> Trial:
    """Return a trial of the plan by its number from 0, its id or the start of its id.

    Without a name, it is the first trial. The trials of a tuned cell come from a search without
    results. Raises `GridError` if the name is not of exactly one trial.
    """
    from grid.search.sweep_search import Search

    search = Search(plan, None, {})
    trials = list(islice(iter(search.next, None), 10_000))
    if name is None:
        return trials[0]
    if name.isdigit() and int(name) < len(trials):
        return trials[int(name)]
    matches = [trial for trial in trials if trial.trial_id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    problem = "several trials start with it" if matches else "no such trial"
    raise GridError(
        f"--trial {name}: {problem}; give an id that `cnngrid plan` lists, or a number from 0 to "
        f"{len(trials) - 1}"
    )


def debug_trial(
    trial: Trial,
    steps: int | None,
    *,
    data_dir: Path,
    threads: int,
    device: str,
    skip_unreadable: bool,
) -> Iterator[str]:
    """Train step by step and yield a line of text for each; exceptions pass through untouched."""
    from cnncore.measure.evaluate import predict
    from cnncore.measure.metrics import classification_metrics
    from cnncore.training.train import EpochResult, train
    from cnncore.training.train_state import chosen_model
    from grid.trial.open import open_trial

    ready = open_trial(
        trial,
        data_dir=data_dir,
        threads=threads,
        device=device,
        module_path=str(Path.cwd()),
        skip_unreadable=skip_unreadable,
    )
    config = trial.config
    yield (
        f"{config.arch} on {config.dataset}, {len(ready.splits.train)} training images, "
        f"{device}, {counted(threads, 'thread')}, seed {trial.seed}"
    )
    events = train(ready.state, ready.splits, config, boundary_every_s=0.0)
    for step, event in enumerate(events, start=1):
        if isinstance(event, EpochResult):
            yield (
                f"epoch {event.epoch}/{config.epochs}: train loss {event.train_loss:.4f}, "
                f"train top-1 {event.train_top1:.4f}, "
                f"{validation_text(event.val_loss, event.val_top1)}"
                f"{event.train_images_per_s:,.0f} images/s"
            )
        else:
            yield f"epoch {event.epoch} step {event.step}"
        if step == steps:
            return
    predictions = predict(
        chosen_model(ready.state),
        ready.splits.test.batches(),
        precision=config.precision,
        device=ready.device,
    )
    test = classification_metrics(*predictions)
    yield f"test top-1 {test.top1:.4f}, test loss {test.loss:.4f}"


def debug(
    sweep: Sweep,
    trial: Annotated[str | None, typer.Option(help="A trial's id, or its number from 0.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after this many steps.")] = None,
    results: ResultsDir = "results",
    data: DataDir = None,
    change: Changes = None,
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Run one trial in this process, without Ray; an exception opens the debugger."""
    import pdb
    import traceback

    from grid.api import default_data_dir
    from grid.cost.slots import pick_device

    spec, plan = plan_sweep(sweep, change, data, skip_unreadable, download=True, results=results)
    lines = debug_trial(
        find_trial(plan, trial),
        steps,
        data_dir=data or default_data_dir(),
        threads=spec.resources.cpus,
        device=pick_device(spec.resources),
        skip_unreadable=skip_unreadable,
    )
    try:
        for line in lines:
            print(line)
    except (Exception, SystemExit) as error:
        print(traceback.format_exc(), file=sys.stderr, end="")
        if sys.stdin.isatty():
            pdb.post_mortem(error.__traceback__)
        sys.exit(1)
