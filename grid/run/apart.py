"""One trial in a process of its own: a trial that may have ended the last drivers ends only that.

The two processes exchange pickles over the child's standard input and output. The user's code may
print and read as it likes: it finds other files there.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Generator
from typing import IO

from grid.errors import StoreError, Superseded
from grid.store.folder import Store
from grid.trial.assignment import Assignment, Progress


class ProcessDied(Exception):
    """Error for a process that ended without a last report; the message says how."""


def run_apart(assignment: Assignment, store: Store) -> Generator[Progress, None, None]:
    """Do as `run_trial` does, in a process of its own. Raises `ProcessDied` too."""
    child = subprocess.Popen(
        [sys.executable, "-c", "from grid.run.apart import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        # The driver decides how a trial ends, so Ctrl-C must reach only the driver.
        start_new_session=True,
    )
    requests, reports = child.stdin, child.stdout
    assert requests is not None
    assert reports is not None
    try:
        _send(requests, assignment)
        while True:
            try:
                report = pickle.load(reports)  # of our own process
            except (EOFError, pickle.UnpicklingError):
                raise ProcessDied(_end_in_words(child.wait())) from None
            if isinstance(report, Exception):
                raise report
            yield report
            if report.done:
                return
            _send(requests, True)
    except BrokenPipeError:
        raise ProcessDied(_end_in_words(child.wait())) from None
    finally:
        try:
            requests.close()  # a trial that is not done saves itself and ends
        except BrokenPipeError:
            pass
        finally:
            child.wait()
            reports.close()


def serve() -> None:
    """Run the trial that comes over standard input; each `True` that comes lets it go on."""
    from grid.store.open import open_store
    from grid.trial.trial import run_trial

    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb") as reports:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        assignment = pickle.load(requests)  # from the driver
        store = open_store(assignment.results)
        trial = run_trial(assignment, store)
        try:
            for progress in trial:
                _send(reports, progress)
                if progress.done or not requests.read(len(pickle.dumps(True))):
                    break
        except (StoreError, Superseded) as problem:
            _send(reports, problem)
        finally:
            trial.close()
            store.close()


def _send(pipe: IO[bytes], value: object) -> None:
    pickle.dump(value, pipe)
    pipe.flush()


def _end_in_words(code: int) -> str:
    """Return how a process ended in words."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    return f"its process was ended by {signal.Signals(-code).name}"
