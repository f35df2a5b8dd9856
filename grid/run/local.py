"""A sweep in this process, one trial after another; Ray is never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grid.errors import StoreError, Superseded

if TYPE_CHECKING:
    from grid.run.driver import Driver


def run_local(driver: Driver) -> None:
    """Run every trial that the driver hands out."""
    from grid.trial.trial import run_trial

    while (assignment := driver.next()) is not None:
        trial = run_trial(assignment, driver.store)
        try:
            for progress in trial:
                if progress.done:
                    driver.finished(progress)
                elif driver.stopping or driver.progress(progress):
                    break
        except (StoreError, Superseded) as problem:
            driver.fail(problem)
        finally:
            trial.close()
