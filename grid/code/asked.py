"""Questions to the user's code, answered in a process of its own or by an answer that was kept.

The user's code may change its process, hang or die there; no torch is loaded here. What passes is
not asked again until its code, its options or a version changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from cnncore.error_text import printable
from cnncore.fresh_process import fresh_process
from grid.code.sources import names_in
from grid.code.versions import versions
from grid.errors import StoreError
from grid.store.atomic import read_json, write_whole

# Code that gives no answer for so long, in seconds, is taken to hang.
HANG_S = 60.0
# What the user's code was given, by the check, for the message that it hangs.
GIVEN = {"network": " to two images", "transform": " to a few images"}


def ask(requests: Sequence[dict[str, Any]], roots: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the answer to each request, from the cache below `roots` or from a process.

    A request names its `check` (`cnncore/training/two_images.py`), the check's arguments, and by
    `code_folder` and `code` the code that it is of. An answer has a `problem`, or None.
    """
    answers = {i: _cached(request, roots) for i, request in enumerate(requests)}
    while open_ := [i for i, answer in answers.items() if answer is None]:
        got, end = _ask([requests[i] for i in open_])
        for i, answer in zip(open_, got, strict=False):
            answers[i] = answer
            if answer["problem"] is None and answer["tried"]:
                _keep(requests[i], answer, roots)
        if len(got) < len(open_):  # the next one ended the process
            answers[open_[len(got)]] = {"problem": end, "notes": []}
    return [answer for answer in answers.values() if answer]


def _ask(requests: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Ask a process; return the answers it gave, and how it ended before the rest."""
    with tempfile.TemporaryFile() as errors:
        read, write = os.pipe()
        process = subprocess.Popen(
            fresh_process("cnncore.training.two_images:main", str(write)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[write],
            start_new_session=True,
        )
        os.close(write)
        try:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(requests).encode())
            got, hangs = _read_answers(process, read, len(requests))
        finally:
            os.close(read)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if hangs:
            given = GIVEN.get(requests[len(got)]["check"], "")
            return got, f"gave no answer{given} within {HANG_S:g} s"
        return got, _last_words(code, errors)


def _read_answers(
    process: subprocess.Popen[bytes], read: int, wanted: int
) -> tuple[list[dict[str, Any]], bool]:
    """Return the answers until all are there or the process ends, and whether it hangs."""
    text, since = b"", time.monotonic()
    while text.count(b"\n") < wanted:
        ended = process.poll() is not None
        if select.select([read], [], [], 0 if ended else 0.1)[0]:
            if not (part := os.read(read, 2**16)):
                process.wait()
                break
            text, since = text + part, time.monotonic()
        elif ended:
            break
        elif time.monotonic() - since > HANG_S:
            return [json.loads(line) for line in text.splitlines()], True
    return [json.loads(line) for line in text.split(b"\n")[:-1]], False


def _last_words(code: int, errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    said = f": {printable(lines[-1])[:300]}" if lines else ""
    if code < 0:
        return f"its code was ended by the signal {signal.Signals(-code).name}{said}"
    return f"its code ended the process with exit code {code}{said}"


# -- what passed before --------------------------------------------------------------------


def _cached(request: dict[str, Any], roots: Sequence[Path]) -> dict[str, Any] | None:
    """Return the stored answer if all files of the user's that it depends on are the same."""
    for root in roots:
        answer = read_json(_path(root, request))
        files = answer.get("files")
        if isinstance(files, dict) and all(_hash(file) == files[file] for file in files):
            return {"notes": [], **answer}
    return None


def _keep(request: dict[str, Any], answer: dict[str, Any], roots: Sequence[Path]) -> None:
    for root in roots:
        with contextlib.suppress(StoreError, UnicodeError):
            write_whole(_path(root, request), json.dumps(answer).encode(), flush=False)
            return


def _path(root: Path, request: dict[str, Any]) -> Path:
    """Return the file of an answer; another folder may have another module of the same name."""
    own = request.get("code") or {}
    packages = sorted({name.partition(".")[0] for name in names_in(request) if name not in own})
    content = [request, versions("timm", *packages), sys.path, os.getcwd()]
    text = json.dumps(content, sort_keys=True)
    return root / "networks" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _hash(file: str) -> str | None:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
