"""Batches from the host on a GPU, each copied while the GPU works on the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

# Batches that are copied before they are asked for.
AHEAD = 1


def crosses_bus(images: Tensor, device: torch.device) -> bool:
    """Check whether batches of these images must be copied to a GPU."""
    # By type, because `cuda` and `cuda:0` are one device and two names.
    return images.device.type == "cpu" and device.type == "cuda"


def copied_ahead(batches: Iterator[Tensor], size: int, device: torch.device) -> Iterator[Tensor]:
    """Yield copies on a CUDA device of uint8 batches `(at most size, side, side, 3)`.

    The bytes of the images cross the bus, on a stream of their own and from pinned memory, so that
    neither the host nor the stream that computes waits for a copy that is not due. A batch of
    `batches` may be overwritten by the next one.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here
    buffers: list[tuple[Tensor, torch.cuda.Event]] = []
    ready: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    for number, images in enumerate(batches):
        if len(buffers) <= AHEAD:
            shape = (size, *images.shape[1:])
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            buffers.append((pinned, event))
        pinned, copied = buffers[number % (AHEAD + 1)]
        copied.synchronize()  # the copy of an earlier batch, which is long done
        part = pinned[: len(images)]
        part.copy_(images)
        with torch.cuda.stream(stream):
            ready.append((part.to(device, non_blocking=True), copied))
            copied.record(stream)
        if len(ready) > AHEAD:
            yield _taken(*ready.popleft(), device)
    while ready:
        yield _taken(*ready.popleft(), device)


def _taken(batch: Tensor, copied: torch.cuda.Event, device: torch.device) -> Tensor:
    """Let the stream that computes wait for the copy, and keep its memory until it is through."""
    computes = torch.cuda.current_stream(device)
    computes.wait_event(copied)
    batch.record_stream(computes)
    return batch
