"""Sweep files and command lines made from good ones by random changes.

Each ends in a plan or a run, or at once with exit code 2 and a short message that names its place.
"""

import copy
import itertools
import json
import math
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cnncore.config import TrialConfig
from grid.errors import LONGEST_SHOWN, MOST_SHOWN
from grid.sweep.spec import SweepSpec
from tests.small_sweeps import call_main

FIXED = {
    "dataset": "digits",
    "image_size": 8,
    "epochs": 1,
    "optimizer": "sgd",
    "limit_train": 32,
    "limit_test": 20,
}
GOOD: list[dict[str, Any]] = [
    {
        "sweep": "plain",
        "compare": {"arch": ["mobilenet_small"], "lr": [0.1, 0.01]},
        "fixed": {**FIXED, "augment": ["flip", {"crop": {"padding": 1}}], "warmup_epochs": 1},
        "seeds": [0],
    },
    {
        "sweep": "tuned",
        "compare": {"arch": ["mobilenet_small"], "optimizer": ["sgd", "adam"]},
        "tune": {
            "trials": 2,
            "sampler": "random",
            "axes": {
                "lr": {"log_uniform": [0.001, 0.1]},
                "batch_size": {"choice": [8, 16]},
                "momentum": {"uniform": [0.5, 0.9], "when": {"optimizer": "sgd"}},
            },
            "confirm": {"top": 1, "seeds": 1},
        },
        "fixed": {k: v for k, v in FIXED.items() if k != "optimizer"} | {"epochs": 2},
        "stop": {"asha": {"grace_epochs": 1}},
        "seeds": [0, 1],
    },
    {
        "sweep": "rules",
        "compare": {"arch": ["mobilenet_small"], "schedule": ["constant", {"step": {"every": 1}}]},
        "fixed": {**FIXED, "lr": 0.1, "normalize": {"mean": [0, 0, 0], "std": [1, 1, 1]}},
        "rules": [{"when": {"schedule": "constant"}, "set": {"batch_size": 16}}],
        "exclude": [{"schedule": "constant"}],
        "folds": 2,
        "keep": {"top": 1},
        "resources": {"cpus": 1, "gpus": 0},
        "disk_gib": 1,
    },
]

SCALARS = st.one_of(
    st.sampled_from([None, True, False, 0, -1, 1, 2, 3, 999, 10**5, 2**31, 2**63, 2**64, 10**400]),
    st.sampled_from([0.0, 0.5, 1.0, -0.5, 1e-320, 1e308, math.nan, math.inf, -math.inf]),
    st.sampled_from(["", " ", "x", "1", "0.1", "true", "null", "a:b", ":", "a.b:c", "__main__:x"]),
    st.sampled_from(["sys:exit", "imagefolder:", "imagefolder:.", "imagefolder:/no/such", "../x"]),
    st.sampled_from(["x" * 5_000, "\u202eabc", "café", "日本", "\x1b[31m", "\0", "\ud800", "a\nb"]),
    st.sampled_from([*SweepSpec.model_fields, *TrialConfig.model_fields, "resnet18", "cosine"]),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)
KEYS = st.one_of(SCALARS, st.sampled_from([*SweepSpec.model_fields, *TrialConfig.model_fields]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=2)),
    max_leaves=4,
)
# CPU time that a plan may take, in seconds.
LONGEST_S = 5
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 64, 999, 10**5, 10**6, 10**9, 0.5, 1e-9, 1e9, 1e300])
# Settings that may be added, most of them possible.
MORE: dict[str, Any] = {
    **dict.fromkeys(
        ["batch_size", "image_size", "width", "depth", "mixup", "ema", "grad_clip", "split_seed"],
        NUMBERS,
    ),
    **dict.fromkeys(["dropout", "weight_decay", "l2", "label_smoothing", "val_fraction"], NUMBERS),
    "schedule": st.sampled_from(
        [
            *("cosine", "one_cycle", "warmup_stable_decay", "polynomial", "nowhere:f"),
            {"restarts": {"first": 1}},
            {"milestones": {"at": [0.5]}},
        ]
    ),
    "optimizer": st.sampled_from(["rmsprop", "muon", "rprop", "lbfgs", "torch.optim:SGD", "a:b"]),
    "optimizer_options": st.builds(lambda n: {"eps": n, "dampening": n}, NUMBERS),
    **dict.fromkeys(["optimizer_options.eps", "optimizer_options.alpha"], NUMBERS),
    "decay_norm_bias": st.booleans(),
    "early_stop": st.builds(lambda n: {"patience": n}, NUMBERS),
    "augment": st.builds(lambda n: [{"erase": {"size": n}}, {"crop": {"padding": n}}], NUMBERS),
    "precision": st.sampled_from(["fp32", "bf16"]),
    "arch_options": st.sampled_from([{"strides": [1, 1, 1, 1]}, {"strides": 3}, {"x": 1}, {}]),
    "pretrained": st.sampled_from(["imagenet", "s.yaml", "file", "."]),
    "deterministic": st.booleans(),
    "quirk": st.sampled_from(["simpson-scale", "hu-random-test"]),
}


def yaml(value: Any) -> str:
    """Write a value as YAML in braces and brackets."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{yaml(key)}: {yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(yaml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return json.dumps(value)


CHANGES = ("number", "add", "number", "replace", "drop", "rename", "list", "keys", "twice", "many")
SPOILT = (
    "bom",
    "crlf",
    "tabs",
    "nul",
    "cut",
    "anchor",
    "toml",
    "empty",
    "latin",
    "twice",
    "folder",
)
OPTIONS = st.one_of(
    st.tuples(st.just("--set"), st.builds("{}={}".format, KEYS, VALUES.map(str))),
    st.tuples(st.just("--set"), st.builds("{}={}".format, KEYS, VALUES.map(yaml))),
    st.tuples(st.just("--set"), st.text(max_size=20)),
    st.tuples(st.sampled_from(["--slots", "--retry", "--on-error", "--sets"]), SCALARS.map(str)),
    st.tuples(st.just("--results"), st.sampled_from(["", "file", "file/x", "é", "x" * 300])),
    st.tuples(st.just("--data"), st.sampled_from(["", "file", "none", "x" * 300])),
    st.sampled_from([("--jsn",), ("--local",), ("--share",), ("more.yaml",), ("-",), ("--",)]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value below the top."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a good sweep with a few changes."""
    data = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 3))):
        if not (paths := list(places(data))):
            break
        *above, key = draw(st.sampled_from(paths))
        parent = data
        for part in above:
            parent = parent[part]
        change = draw(st.sampled_from(CHANGES))
        if change == "replace":
            parent[key] = draw(VALUES)
        elif change == "number":
            if isinstance(parent[key], (int, float)):
                parent[key] = draw(NUMBERS)
        elif change == "add":
            if isinstance(data.get("fixed"), dict):
                new = draw(st.sampled_from(sorted(MORE)))
                data["fixed"][new] = draw(MORE[new])
        elif change == "drop":
            del parent[key]
        elif change == "rename" and isinstance(parent, dict):
            new = draw(st.one_of(KEYS, st.just(f"{key}s")))
            parent[new] = parent.pop(key)
        elif change == "list":
            parent[key] = [parent[key]]
        elif change == "keys":
            parent[key] = {draw(KEYS): parent[key]}
        elif change == "twice":
            parent[key] = [parent[key], parent[key]]
        elif change == "many":
            parent[key] = [draw(SCALARS)] * draw(st.sampled_from([20, 2000]))
    return data


def written(data: dict[str, Any]) -> str:
    return "".join(f"{yaml(key)}: {yaml(value)}\n" for key, value in data.items())


def spoilt(text: str, how: str | None) -> bytes:
    """Return the bytes of a file whose text was spoilt in one way."""
    if how == "anchor":
        text = f"a: &a {{x: [1, *a]}}\n{text}b: *a\n"
    elif how == "toml":
        text = text.replace(": ", " = ")
    elif how == "cut":
        text = text[: len(text) // 2]
    elif how == "twice":
        text += text
    elif how == "tabs":
        text = text.replace(" ", "\t")
    elif how == "crlf":
        text = text.replace("\n", "\r\n")
    elif how == "nul":
        text = text.replace("\n", "\0\n", 1)
    elif how == "empty":
        text = ""
    prefix = b"\xef\xbb\xbf" if how == "bom" else b"\xff\xe9" if how == "latin" else b""
    return prefix + text.encode()


def is_tiny(plan: dict[str, Any]) -> bool:
    """Check that the trials of a plan take less than a second together."""
    configs = [row.get("config") for row in plan["trials"]]
    return len(configs) <= 2 and all(
        config
        and config["arch"] == "mobilenet_small"
        and config["dataset"] == "digits"
        and config["epochs"] == 1
        and config["image_size"] <= 32
        and config.get("limit_train", 10_000) <= 100
        and config.get("limit_test", 10_000) <= 100
        and max(config.get("width") or 1, config.get("depth") or 1) <= 2
        and not config.get("arch_options")
        for config in configs
    )


def check_refusal(result: subprocess.CompletedProcess[str], names: list[str]) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert 0 < len(lines) <= MOST_SHOWN + 2, result.stderr
    assert all(len(line) <= LONGEST_SHOWN + 100 for line in lines)
    assert all(line.isprintable() for line in lines), result.stderr
    assert any(name in result.stderr for name in names), result.stderr


def try_it(folder: Path, data: Any, how: str | None, options: Any) -> None:
    """Plan what was drawn, and run it if that is quick."""
    (folder / "file").touch()
    sweep = folder / "s.yaml"
    if how == "folder":
        sweep.mkdir()
    else:
        sweep.write_bytes(spoilt(written(data), how))
    words = [str(word) for option in options for word in option]
    names = ["s.yaml", "--", "Usage:", *(word.partition("=")[0] for word in words if word)]
    if not {"--retry", "--on-error", "--share", "--local"} & set(words):
        before = time.thread_time()  # of the command alone: other tests left threads here
        planned = call_main("plan", sweep, "--json", *words)
        assert time.thread_time() - before < LONGEST_S
        if planned.returncode != 0:
            check_refusal(planned, names)
            return
        if not is_tiny(json.loads(planned.stdout)) or "--slots" in words:
            return
    elif data not in GOOD:
        return
    result = call_main("run", sweep, "--local", *words)
    if result.returncode != 0:
        check_refusal(result, names)


def fuzz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    numbers = itertools.count()
    monkeypatch.setenv("CNNGRID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        changed(),
        st.one_of(st.none(), st.none(), st.sampled_from(SPOILT)),
        st.one_of(st.just([]), st.lists(OPTIONS, max_size=2)),
    )
    @example(GOOD[0], None, [])
    @example(GOOD[1], None, [])
    @example(GOOD[2], None, [])
    def one(data: Any, how: str | None, options: Any) -> None:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        monkeypatch.chdir(folder)
        try_it(folder, data, how, options)

    one()


@pytest.mark.slow
def test_any_input_ends_in_a_run_or_a_short_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(tmp_path, monkeypatch, 50)


@pytest.mark.soak
def test_many_inputs_end_in_a_run_or_a_short_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(tmp_path, monkeypatch, 500)
