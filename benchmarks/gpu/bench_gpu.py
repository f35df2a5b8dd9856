"""One trial on a GPU against hand-written loops, several at a time, and several as one.

    python3 -m benchmarks.gpu.bench_gpu STAGE [--out FOLDER] [--seconds S]

Stages: `ceilings`, `solo`, `packed`, `branches`, `stacked`, `accuracy`. Every stage ends by itself
and writes FOLDER/STAGE.json; a side that fails is written with its error and costs no other side.
Speeds are images per second, medians of rounds in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.loops import (
    BATCH_SIZE,
    DEVICE,
    NETWORKS,
    load_images,
    make_config,
    make_network,
    ours,
    resident,
    tutorial,
)
from benchmarks.gpu.several import branches, child, packed, stacked
from benchmarks.gpu.timing import Round, Row, guarded, measured_in_turn, seconds_of
from cnncore.data import open_splits
from cnncore.measure.evaluate import predict
from cnncore.training.float32 import use_float32
from cnncore.training.train import EpochResult, start, train
from cnncore.training.train_state import chosen_model


def solo(seconds: float) -> list[Row]:
    """Compare training loops on one trial; measure the GPU use of this project's loop."""
    rows: list[Row] = []
    for arch in NETWORKS:
        for precision in ("fp32", "bf16"):
            about = {"arch": arch, "precision": precision}
            rows += measured_in_turn(
                sides(arch, precision), about | {"batch_size": BATCH_SIZE}, seconds / 8, BATCH_SIZE
            )
            with guarded(rows, about | {"side": "busy"}) as row:
                row.update(busy_share(arch, precision))
    return rows


def sides(arch: str, precision: str, steps: int = 200) -> dict[str, Callable[[], Round]]:
    """Return the loops, measured in turn. `ours_again` shows the spread of repeated runs.

    All have the same 32-bit arithmetic, IEEE's; PyTorch's default has TF32 in convolutions.
    """
    use_float32(precision, DEVICE)
    loops: dict[str, Callable[[], Round]] = {
        "ours": lambda: ours(arch, precision, steps),
        "ours_again": lambda: ours(arch, precision, steps),
        "resident": lambda: resident(arch, precision, steps),
        "graph": lambda: resident(arch, precision, steps, graph=True),
    }
    if precision == "fp32":
        loops["tutorial_8"] = lambda: tutorial(arch, 8, 60)
    return loops


def busy_share(arch: str, precision: str, steps: int = 30) -> dict[str, float]:
    """Return kernels, device time and wall time of a step of `train`, from the profiler."""
    from torch.autograd import DeviceType  # type: ignore[attr-defined]  # absent from torch's stubs
    from torch.profiler import ProfilerActivity, profile

    epoch = ours(arch, precision, steps)
    for _ in range(2):
        epoch()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        epoch()
        wall_s = time.perf_counter() - started
    kernels = [e for e in profiler.events() or () if e.device_type == DeviceType.CUDA]
    device_us = sum(e.self_device_time_total for e in kernels)
    return {
        "kernels_per_step": len(kernels) / steps,
        "device_us_per_step": device_us / steps,
        "wall_us_per_step_profiled": wall_s / steps * 1e6,
    }


def ceilings(seconds: float) -> list[Row]:
    """Measure the device at its best: copies, products, launches, grouped convolutions."""
    rows: list[Row] = []
    with guarded(rows, {"what": "copy"}) as row:
        row["tb_per_s"] = copy_tb_per_s()
    for dtype in (torch.bfloat16, torch.float32):
        with guarded(rows, {"what": f"product {dtype}"}) as row:
            row["tflop_per_s"] = product_tflop_per_s(dtype)
    with guarded(rows, {"what": "empty kernel, eager and in a graph"}) as row:
        row.update(launch_us())
    for k in (1, 4, 16, 32):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            for inside, outside, side in ((10, 20, 16), (20, 40, 8), (64, 64, 32)):
                about = {"what": "grouped convolution", "groups": k, "side": side}
                about |= {"channels": f"{inside}->{outside}", "memory_format": str(memory_format)}
                with guarded(rows, about) as row:
                    row["us"] = grouped_us(k, inside, outside, side, memory_format)
    return rows


def copy_tb_per_s() -> float:
    """Terabytes read and written per second when memory is copied within the device."""
    source = torch.randint(0, 255, (2**32,), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds_of(lambda: target.copy_(source)) / 1e12


def product_tflop_per_s(dtype: torch.dtype, n: int = 8192) -> float:
    """Floating-point operations of a product of matrices, in 1e12 per second."""
    x = torch.randn(n, n, device=DEVICE, dtype=dtype)
    return 2 * n**3 / seconds_of(lambda: x @ x) / 1e12


def launch_us(launches: int = 1000) -> dict[str, float]:
    """Microseconds that one kernel with nothing to do takes."""
    zero = torch.zeros(1, device=DEVICE)

    def launch_all() -> None:
        for _ in range(launches):
            zero.add_(1)

    eager_s = seconds_of(launch_all)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch_all()
    graph_s = seconds_of(graph.replay)
    return {"eager_us": eager_s / launches * 1e6, "graph_us": graph_s / launches * 1e6}


def grouped_us(
    k: int, inside: int, outside: int, side: int, memory_format: torch.memory_format
) -> float:
    """Microseconds of a convolution in K groups, forward and backward, bf16."""
    conv = nn.Conv2d(k * inside, k * outside, 3, padding=1, groups=k, bias=False)
    conv = conv.to(DEVICE, torch.bfloat16).to(memory_format=memory_format)
    x = torch.randn(BATCH_SIZE, k * inside, side, side, device=DEVICE, dtype=torch.bfloat16)
    x = x.to(memory_format=memory_format).requires_grad_()

    def both() -> None:
        y = conv(x)
        y.backward(y.detach())

    return seconds_of(both) * 1e6


def accuracy(seconds: float) -> list[Row]:
    """`resnet18` with a CIFAR stem through the training loop in bf16, as far as the time goes."""
    rows: list[Row] = []
    data = load_images(50_000)
    with guarded(rows, {"what": "resnet18 cifar", "data": data.name}) as row:
        recipe: dict[str, Any] = {
            "epochs": 30,
            "lr": 0.1,
            "schedule": "cosine",
            "warmup_epochs": 2,
            "label_smoothing": 0.1,
            "val_fraction": 0.1,
        }
        config = make_config("resnet18", "bf16", 45_000, **recipe, **NETWORKS["resnet18"])
        splits = open_splits(config, data, DEVICE)
        state = start(config, make_network("resnet18"), 0, DEVICE)
        started = time.perf_counter()
        for event in train(state, splits, config, boundary_every_s=1e9):
            assert isinstance(event, EpochResult)
            wall_s = time.perf_counter() - started
            row.update(epoch=event.epoch, val_top1=event.val_top1, wall_s=wall_s)
            row.update(images_per_s=event.train_images_per_s, eval_time_s=event.eval_time_s)
            if wall_s > seconds:
                break
        logits, labels = predict(
            chosen_model(state), splits.test.batches(), precision="bf16", device=DEVICE
        )
        row["test_top1"] = float((logits.argmax(1) == labels).float().mean())
    return rows


STAGES: dict[str, Callable[[float], list[Row]]] = {
    "ceilings": ceilings,
    "solo": solo,
    "packed": packed,
    "branches": branches,
    "stacked": stacked,
    "accuracy": accuracy,
}


def main() -> None:
    """Run one stage, or one of the processes of `packed`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=[*STAGES, "child"])
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=60, help="about how long the stage takes")
    parser.add_argument("--arch", choices=list(NETWORKS), default="cnn3", help="of a child")
    parser.add_argument("--kind", choices=["ours", "graph"], default="ours", help="of a child")
    given = parser.parse_args()
    torch.set_num_threads(4)
    if given.stage == "child":
        child(given.arch, given.kind, given.seconds)
        return
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    print(f"{given.stage} on {device}", flush=True)
    started = time.perf_counter()
    rows = STAGES[given.stage](given.seconds)
    took_s = time.perf_counter() - started
    about = {"torch": torch.__version__, "device": device, "took_s": took_s}
    given.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"about": about, "rows": rows}, indent=1)
    (given.out / f"{given.stage}.json").write_text(text)
    for row in rows:
        if "error" in row:
            print("ERROR", row)
    print(f"{given.stage}: {took_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
