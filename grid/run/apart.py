"""One trial in a process of its own: if it ended the last drivers, it now ends only that."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Generator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from cnncore.fresh_process import fresh_process
from grid.errors import BrokenDevice, StoreError, Superseded
from grid.store.folder import Store
from grid.trial.assignment import Assignment, Progress


class ProcessDied(Exception):
    """Error for a process that ended without a last report; the message says how."""


def run_apart(assignment: Assignment, store: Store) -> Generator[Progress, None, None]:
    """Do as `run_trial` does, in a process of its own. Raises `ProcessDied` too."""
    here, there = Pipe()
    with here:
        with there:
            child = subprocess.Popen(
                fresh_process("grid.run.apart:serve", str(there.fileno())),
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                # The driver decides how a trial ends, so Ctrl-C must reach only the driver.
                start_new_session=True,
            )
        try:
            here.send(assignment)
            while True:
                report = here.recv()
                if isinstance(report, Exception):
                    raise report
                yield report
                if report.done:
                    return
                here.send(True)
        except (EOFError, ConnectionError):
            raise ProcessDied(_end_in_words(child.wait())) from None
        finally:
            here.close()  # a trial that is not done saves itself and ends
            child.wait()


def serve(descriptor: str) -> None:
    """Run the trial that comes over the connection; each `True` that comes lets it go on."""
    from grid.store.open import open_store
    from grid.trial.trial import run_trial

    with Connection(int(descriptor)) as driver:
        assignment: Assignment = driver.recv()
        store = open_store(assignment.results)
        trial = run_trial(assignment, store)
        try:
            for progress in trial:
                driver.send(progress)
                if progress.done or not driver.recv():
                    break
        except (EOFError, ConnectionError):
            pass  # the driver wants it to end, or has ended
        except (StoreError, Superseded, BrokenDevice) as problem:
            driver.send(problem)
        finally:
            trial.close()
            store.close()


def _end_in_words(code: int) -> str:
    """Return how a process ended in words."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    return f"its process was ended by {signal.Signals(-code).name}"
