"""Several trials at a time on one GPU: as processes, as branches of one graph, as one network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.loops import (
    BATCH_SIZE,
    DEVICE,
    Member,
    autocast,
    make_network,
    new_stream,
    ours,
    resident,
    wait_for_device,
)
from benchmarks.gpu.stack import StackedSGD, stack, stacked_loss
from benchmarks.gpu.timing import Row, guarded, seconds_of

MIB = 2**20
STEPS = 100


def packed(seconds: float) -> list[Row]:
    """Measure 1 to 8 processes on the device: in time slices, then through an MPS daemon."""
    rows: list[Row] = []
    mps = start_mps()
    for through in ("slices", *(("mps",) if mps else ())):
        variables = mps if through == "mps" else {}
        for arch, kinds in (("cnn3", ("ours", "graph")), ("resnet18", ("ours",))):
            for processes in (1, 4, 8):
                for kind in kinds:
                    about = {"arch": arch, "processes": processes, "through": through, "kind": kind}
                    with guarded(rows, about) as row:
                        row.update(together(arch, processes, kind, seconds / 40, variables))
    if mps:
        subprocess.run(
            ["nvidia-cuda-mps-control"],
            input=b"quit\n",
            env={**os.environ, **mps},
            timeout=30,
            check=False,
        )
    return rows


def start_mps() -> dict[str, str]:
    """Start an MPS daemon in folders of its own; the variables of its clients, none if it fails.

    No setting of the card is changed.
    """
    folder = Path("/tmp/mps")
    folder.mkdir(exist_ok=True)
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    try:
        subprocess.run(
            ["nvidia-cuda-mps-control", "-d"],
            env={**os.environ, **variables},
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        print("no MPS:", problem)
        return {}
    return variables


def together(
    arch: str, processes: int, kind: str, seconds: float, variables: dict[str, str]
) -> dict[str, float]:
    """Sums over `processes` processes that train at the same time, each as `child` does."""
    command = [sys.executable, "-m", "benchmarks.gpu.bench_gpu", "child"]
    command += ["--arch", arch, "--kind", kind, "--seconds", str(seconds)]
    children = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        for _ in range(processes)
    ]
    try:
        for process in children:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
        for process in children:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        reports = [json.loads(process.stdout.readline()) for process in children if process.stdout]
    finally:
        for process in children:
            process.kill()
            process.wait()
    keys = ("images_per_s", "peak_mib", "reserved_mib")
    return {key: sum(process[key] for process in reports) for key in keys}


def child(arch: str, kind: str, seconds: float) -> None:
    """Say "ready", wait for a line, train for `seconds`, and print the measurements as JSON."""
    if kind == "ours":
        epoch = ours(arch, "bf16", STEPS)
    else:
        epoch = resident(arch, "bf16", STEPS, graph=True)
    epoch()
    print("ready", flush=True)
    sys.stdin.readline()
    started, epochs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        epoch()
        epochs += 1
    wait_for_device()
    report = {
        "images_per_s": epochs * STEPS * BATCH_SIZE / (time.perf_counter() - started),
        "peak_mib": torch.cuda.max_memory_allocated() / MIB,
        "reserved_mib": torch.cuda.memory_reserved() / MIB,
    }
    print(json.dumps(report), flush=True)


def branches(seconds: float) -> list[Row]:
    """K members in one graph: the steps are its branches, each on its own stream."""
    rows: list[Row] = []
    for arch in ("cnn3", "mobilenet_small", "resnet18"):
        for k in (1, 2, 4, 8, 16):
            about = {"arch": arch, "members": k, "how": "branches of one graph"}
            with guarded(rows, about) as row:
                row.update(measure_branches(arch, k))
                row["equal_to_alone"] = equal_alone(arch)
            torch.cuda.empty_cache()
    return rows


def measure_branches(arch: str, k: int) -> dict[str, float]:
    """Time and memory of a step of K members."""
    torch.cuda.reset_peak_memory_stats()
    members = [Member(arch, "bf16", STEPS, lr=0.01 * (i + 1), seed=i) for i in range(k)]
    step_s = seconds_of(capture_branches(members).replay, 50)
    return {
        "us_per_step": step_s * 1e6,
        "images_per_s": k * BATCH_SIZE / step_s,
        "peak_mib": torch.cuda.max_memory_allocated() / MIB,
    }


def capture_branches(members: Sequence[Member], generator: torch.Generator | None = None) -> Any:
    """One graph with a step of each member, none waiting for another."""
    streams = [new_stream() for _ in members]
    for member, stream in zip(members, streams, strict=True):
        member.prepare(stream, generator)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        root = torch.cuda.current_stream()
        for member, stream in zip(members, streams, strict=True):
            stream.wait_stream(root)
            with torch.cuda.stream(stream):
                member.step()
        for stream in streams:
            root.wait_stream(stream)
    return graph


def equal_alone(arch: str) -> bool:
    """Compare the weights of a member after 20 steps alone and beside three others."""
    alone, beside_others = weights_beside(arch, 0), weights_beside(arch, 3)
    return all(torch.equal(a, b) for a, b in zip(alone, beside_others, strict=True))


def weights_beside(arch: str, others: int, steps: int = 20) -> list[Tensor]:
    """The weights of the first member after some steps of it and the others."""
    members = [Member(arch, "bf16", 10, seed=i) for i in range(1 + others)]
    graph = capture_branches(members, torch.Generator(DEVICE).manual_seed(7))
    for _ in range(steps):
        graph.replay()
    torch.cuda.synchronize()
    return [weight.detach().clone() for weight in members[0].model.parameters()]


def stacked(seconds: float) -> list[Row]:
    """K members as one network of K times the channels, its step one graph."""
    rows: list[Row] = []
    for arch in ("cnn3", "mobilenet_small"):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            for k in (1, 4, 16, 32, 64):
                about = {"arch": arch, "members": k, "how": "stacked"}
                with guarded(rows, about | {"memory_format": str(memory_format)}) as row:
                    row.update(measure_stacked(arch, k, memory_format))
                torch.cuda.empty_cache()
    return rows


def measure_stacked(arch: str, k: int, memory_format: torch.memory_format) -> dict[str, float]:
    """Time and memory of a step of K members that are one network."""
    torch.cuda.reset_peak_memory_stats()
    model = stack([make_network(arch) for _ in range(k)])
    model.to(DEVICE).to(memory_format=memory_format).train()
    lr, momentum, weight_decay = (torch.full((k,), x, device=DEVICE) for x in (0.01, 0.9, 5e-4))
    optimizer = StackedSGD(model, lr, momentum, weight_decay)
    optimizer.first = False  # a captured step cannot branch; the first velocity is zero anyway
    x = torch.randn(BATCH_SIZE, 3, 32, 32, device=DEVICE).to(memory_format=memory_format)
    y = torch.randint(0, 10, (BATCH_SIZE,), device=DEVICE)
    smoothing = torch.zeros(k, device=DEVICE)

    def step() -> None:
        with autocast("bf16"):
            logits = model(x)
        stacked_loss(logits, y, k, smoothing).sum().backward()  # type: ignore[no-untyped-call]  # untyped
        optimizer.step()

    side = new_stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(4):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    step_s = seconds_of(graph.replay, 50)
    return {
        "us_per_step": step_s * 1e6,
        "images_per_s": k * BATCH_SIZE / step_s,
        "peak_mib": torch.cuda.max_memory_allocated() / MIB,
    }
