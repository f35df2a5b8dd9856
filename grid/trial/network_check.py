"""Every network and own optimizer of a plan tried before anything runs; loads no torch here.

They are tried in a process of their own, because the user's code may change it, hang or die there.
A network that passes is not tried again until its code, its options or a version changes.
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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cnncore.catalog import NETWORKS
from cnncore.config import NETWORK_KEYS, OPTIMIZERS, TrialConfig, network_options
from cnncore.config.optimizers import OPTIMIZER_KEYS
from cnncore.data import load_planned
from cnncore.data.cache import cache_roots
from cnncore.error_text import printable
from cnncore.fresh_process import fresh_process
from grid.errors import StoreError
from grid.plan.plan import Plan, corners
from grid.store.atomic import read_json, write_whole
from grid.trial.provenance import versions

# A network that gives no answer for so long, in seconds, is taken to hang.
HANG_S = 60.0
# Options that may make a network of the catalog impossible; it is known to work with others.
DOUBTFUL = ("arch_options", "width", "depth")


@dataclass
class TriedNetworks:
    """The problem of every network and optimizer that was tried, or None, and remarks on them."""

    # By the keys of `_key` and `_optimizer_key`.
    problems: dict[str, str | None] = field(default_factory=dict)
    # By name.
    notes: dict[str, list[str]] = field(default_factory=dict)
    # The problems of the variants of a network or an optimizer, by the config's key and its name.
    variants: dict[tuple[str, str], list[str | None]] = field(default_factory=dict)

    def problem(self, config: TrialConfig) -> str | None:
        """Return the problem of a config's network or optimizer, None if none is known.

        If every variant that was tried has one, so have the others.
        """
        parts = {"arch": _key(config), "optimizer": _optimizer_key(config)}
        return next(filter(None, (self._problem(config, *part) for part in parts.items())), None)

    def _problem(self, config: TrialConfig, part: str, key: str) -> str | None:
        if key in self.problems:
            return self.problems[key]
        variants = self.variants.get((part, getattr(config, part))) or [None]
        return variants[0] if all(variants) else None

    def placed_messages(self) -> list[tuple[str, str]]:
        """Return the problems as lines, one for each name and problem, with the config's key."""
        lines = []
        for (part, name), variants in self.variants.items():
            for problem in dict.fromkeys(filter(None, variants)):
                count = variants.count(problem)
                some = f" ({count} of its {len(variants)} variants)"
                text = problem.removeprefix(name).lstrip(": ")
                lines.append((part, f"{name}: {text}{some if count < len(variants) else ''}"))
        return lines

    def messages(self) -> list[str]:
        """Return the problems as lines, one for each name and problem."""
        return [message for _, message in self.placed_messages()]

    def remarks(self) -> list[str]:
        """Return the remarks as lines."""
        return [f"{arch}: {note}" for arch, notes in self.notes.items() for note in notes]


def unfinished_configs(plan: Plan, finished: Collection[str]) -> Iterator[TrialConfig]:
    """Yield the configs of trials without a result; of a search, those at the axes' ends."""
    for trial in plan.trials:
        if trial.trial_id not in finished:
            yield trial.config
    if plan.spec.tune:
        for cell in plan.cells:
            for tuned in corners(plan.spec, cell.values):
                yield plan.resolver.resolve({**cell.values, **tuned})


def try_networks(
    plan: Plan, configs: Iterable[TrialConfig], data_dir: Path, device: str
) -> TriedNetworks:
    """Build the network of every config, train it on two images and show it one.

    Networks of the catalog are known to work, unless an option makes it doubtful. A network that
    cannot be tried without values is tried on `device`. Optimizers of the user's own take some
    steps on a tiny network.
    """
    requests: dict[str, dict[str, Any]] = {}
    places: dict[str, tuple[str, str]] = {}
    for config in configs:
        if config.optimizer not in OPTIMIZERS:
            keys = _optimizer_key(config)
            requests[keys], places[keys] = (
                {"keys": json.loads(keys), **_code_of(plan, config)},
                ("optimizer", config.optimizer),
            )
        doubtful = any(getattr(config, name) is not None for name in DOUBTFUL)
        if (config.arch in NETWORKS and not doubtful) or (key := _key(config)) in requests:
            continue
        data = load_planned(config, data_dir, skip_unreadable=plan.skip_unreadable)
        places[key] = ("arch", config.arch)
        requests[key] = {
            "arch": config.arch,
            "classes": len(data.class_names),
            "image_size": config.image_size,
            "options": network_options(config),
            "freeze": config.freeze is not None,
            "copied": config.select == "best" or config.ema is not None,
            "device": device,
            **_code_of(plan, config),
        }
    answers = ask(list(requests.values()), cache_roots(data_dir)) if requests else []
    tried = TriedNetworks()
    for key, answer in zip(requests, answers, strict=True):
        tried.problems[key] = answer["problem"]
        tried.variants.setdefault(places[key], []).append(answer["problem"])
        notes = tried.notes.setdefault(places[key][1], [])
        notes += [note for note in answer["notes"] if note not in notes]
    return tried


def _code_of(plan: Plan, config: TrialConfig) -> dict[str, Any]:
    """Return where an earlier version's code lies, and fingerprints: other code is tried anew."""
    code = plan.resolver.code
    folder = code.earlier_folder(config)
    return {"code_folder": str(folder) if folder else None, "code": code.versions(config)}


def _key(config: TrialConfig) -> str:
    """Return a key that is equal for configs whose networks are tried alike."""
    names = {"arch", "arch_options", "image_size", "dataset", "labels", "freeze", "select", "ema"}
    return config.model_dump_json(include={*NETWORK_KEYS, *names})


def _optimizer_key(config: TrialConfig) -> str:
    """Return the keys, as JSON, that are equal for configs whose optimizers are tried alike."""
    names = {"optimizer", "optimizer_options", "decay_norm_bias", "lr", *OPTIMIZER_KEYS}
    return config.model_dump_json(include=names, exclude_none=True)


def ask(requests: list[dict[str, Any]], roots: list[Path]) -> list[dict[str, Any]]:
    """Return the answer to each request, from the cache or from a process of its own."""
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
    """Try networks in a process; return the answers it gave, and how it ended before the rest."""
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
            return got, f"gave no answer within {HANG_S:g} s"
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


# -- networks that passed before -----------------------------------------------------------


def _cached(request: dict[str, Any], roots: list[Path]) -> dict[str, Any] | None:
    """Return the stored answer if all files of the user's that it depends on are the same."""
    for root in roots:
        answer = read_json(_path(root, request))
        files = answer.get("files")
        if isinstance(files, dict) and all(_hash(file) == files[file] for file in files):
            return {"problem": None, "notes": answer.get("notes", [])}
    return None


def _keep(request: dict[str, Any], answer: dict[str, Any], roots: list[Path]) -> None:
    for root in roots:
        with contextlib.suppress(StoreError, UnicodeError):
            write_whole(_path(root, request), json.dumps(answer).encode(), flush=False)
            return


def _path(root: Path, request: dict[str, Any]) -> Path:
    """Return the file of an answer; another folder may have another module of the same name."""
    content = json.dumps([request, versions("timm"), sys.path, os.getcwd()], sort_keys=True)
    return root / "networks" / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.json"


def _hash(file: str) -> str | None:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None
