"""A sweep in this process, one trial after another; Ray is never imported.

A trial that may have ended the last drivers gets a process of its own, and so do all trials once
this process can use its GPU no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grid.errors import BrokenDevice, StoreError, Superseded
from grid.run.lost_trials import Cause, is_suspect
from grid.store.open import open_store

if TYPE_CHECKING:
    from grid.run.driver import Driver

BROKEN = "this process can use its GPU no more"


def run_local(driver: Driver) -> None:
    """Run every trial that the driver hands out."""
    from grid.run.apart import ProcessDied, run_apart
    from grid.trial.trial import run_trial

    store = driver.store
    if store.files.all_on_disk:  # by its absolute path, which no network's `os.chdir` changes
        store = open_store(store.location)
    broken = False
    while (assignment := driver.next()) is not None:
        apart = broken or is_suspect(store, assignment.trial.trial_id)
        trial = (run_apart if apart else run_trial)(assignment, store)
        try:
            for progress in trial:
                if progress.done:
                    driver.finished(progress)
                elif driver.stopping or driver.progress(progress):
                    break
        except ProcessDied as death:
            driver.lost(assignment.trial.trial_id, Cause("process", str(death)))
        except BrokenDevice as problem:
            driver.lost(assignment.trial.trial_id, Cause("process", str(problem)))
            if not apart:
                broken = True
                driver.display.note(f"{BROKEN}; each trial gets a process of its own from now on")
        except (StoreError, Superseded) as problem:
            driver.fail(problem)
        finally:
            trial.close()
