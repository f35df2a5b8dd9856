"""A sweep in this process, one trial after another; Ray is never imported.

Only a trial that may have ended the last drivers gets a process of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grid.errors import StoreError, Superseded
from grid.run.lost_trials import Cause, is_suspect

if TYPE_CHECKING:
    from grid.run.driver import Driver


def run_local(driver: Driver) -> None:
    """Run every trial that the driver hands out."""
    from grid.run.apart import ProcessDied, run_apart
    from grid.trial.trial import run_trial

    while (assignment := driver.next()) is not None:
        suspect = is_suspect(driver.store, assignment.trial.trial_id)
        trial = (run_apart if suspect else run_trial)(assignment, driver.store)
        try:
            for progress in trial:
                if progress.done:
                    driver.finished(progress)
                elif driver.stopping or driver.progress(progress):
                    break
        except ProcessDied as death:
            driver.lost(assignment.trial.trial_id, Cause("process", str(death)))
        except (StoreError, Superseded) as problem:
            driver.fail(problem)
        finally:
            trial.close()
