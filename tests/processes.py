"""Commands in processes of their own, each with a time within which it must end."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Far more than anything here takes, even if many tests run at a time.
ENDS_WITHIN_S = 400.0


class Process(subprocess.Popen[str]):
    """A command that has started; its output goes to a file.

    A pipe stays open as long as any child of the command has it (Ray's daemons do), and a reader
    of the whole pipe waits for all of them.
    """

    def __init__(
        self, line: Sequence[str | Path], cwd: Path, env: Mapping[str, str], output: Path
    ) -> None:
        self._output = output
        with open(output, "wb") as file:
            super().__init__(
                line,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Output so far."""
        return self._output.read_text(errors="replace")

    def end(self, timeout_s: float = ENDS_WITHIN_S) -> str:
        """Wait for its end and return its output. Raises `AssertionError` if it does not end."""
        try:
            self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_and_wait()
            raise AssertionError(f"no end within {timeout_s} s\n{self.output}") from None
        return self.output

    def kill_and_wait(self) -> None:
        """Kill this process, but none of its children."""
        self.kill()
        self.wait(60)


def run_to_end(
    line: Sequence[str | Path], cwd: Path, env: Mapping[str, str], timeout_s: float = ENDS_WITHIN_S
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its output.

    Raises `AssertionError` if it does not end.
    """
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:

        def texts() -> list[str]:
            for stream in (stdout, stderr):
                stream.seek(0)
            return [stdout.read(), stderr.read()]

        process = subprocess.Popen(
            line, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            output_so_far = "\n".join(texts())
            raise AssertionError(f"no end within {timeout_s} s: {line}\n{output_so_far}") from None
        finally:
            process.kill()
            process.wait(60)
        return subprocess.CompletedProcess(line, code, *texts())


def wait_for(
    event: str,
    condition: Callable[[], object],
    *processes: Process,
    timeout_s: float = ENDS_WITHIN_S,
    every_s: float = 0.02,
) -> None:
    """Wait until `processes` make a condition true.

    Raises `AssertionError` with their output if it does not happen or one of them ends.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        ended = [process for process in processes if process.poll() is not None]
        if condition():
            return
        if ended or time.monotonic() > deadline:
            output = "\n".join(process.output for process in processes)
            problem = "the process ended before" if ended else f"not within {timeout_s:.0f} s:"
            raise AssertionError(f"{problem} {event}\n{output}")
        time.sleep(every_s)
