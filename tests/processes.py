"""Commands in processes of their own, each with a time within which it must end."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Far more than anything here takes, even where many tests run at a time.
ENDS_WITHIN_S = 400.0


class Process(subprocess.Popen[str]):
    """A command that has started; what it says goes to a file.

    A pipe stays open for as long as anything below the command has it (Ray's daemons do), and who
    reads it to its end waits for all of them.
    """

    def __init__(
        self, line: Sequence[str | Path], cwd: Path, env: Mapping[str, str], output: Path
    ) -> None:
        self._output = output
        with open(output, "wb") as said:
            super().__init__(
                line,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Output so far."""
        return self._output.read_text(errors="replace")

    def end(self, timeout_s: float = ENDS_WITHIN_S) -> str:
        """Wait for its end; what it said. Raises `AssertionError` where it does not end."""
        try:
            self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_and_wait()
            raise AssertionError(f"no end within {timeout_s} s\n{self.said}") from None
        return self.said

    def kill_and_wait(self) -> None:
        """Kill it, and it alone."""
        self.kill()
        self.wait(60)


def finished(
    line: Sequence[str | Path], cwd: Path, env: Mapping[str, str], timeout_s: float = ENDS_WITHIN_S
) -> subprocess.CompletedProcess[str]:
    """Return the output of a command that ran to its end.

    Raises `AssertionError` if it does not end.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as erred:

        def texts() -> list[str]:
            for stream in (said, erred):
                stream.seek(0)
            return [said.read(), erred.read()]

        process = subprocess.Popen(
            line, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=erred
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            said_so_far = "\n".join(texts())
            raise AssertionError(f"no end within {timeout_s} s: {line}\n{said_so_far}") from None
        finally:
            process.kill()
            process.wait(60)
        return subprocess.CompletedProcess(line, code, *texts())


def wait_for(
    what: str,
    condition: Callable[[], object],
    *processes: Process,
    timeout_s: float = ENDS_WITHIN_S,
    every_s: float = 0.02,
) -> None:
    """Wait until something is true that `processes` bring about.

    Raises `AssertionError` with what they said where it does not happen or one of them ends.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        ended = [process for process in processes if process.poll() is not None]
        if condition():
            return
        if ended or time.monotonic() > deadline:
            said = "\n".join(process.said for process in processes)
            how = "the process ended before" if ended else f"not within {timeout_s:.0f} s:"
            raise AssertionError(f"{how} {what}\n{said}")
        time.sleep(every_s)
