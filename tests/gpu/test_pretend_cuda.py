"""The pretended device finds planted faults, each one that a GPU would have had."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cnncore.data.batches import InputStage, TrainSplit
from cnncore.models.logits import check_logits
from cnncore.training import train as train_module
from tests.gpu.conftest import REAL
from tests.gpu.test_on_device import CONFIGS, cut, make_config, waits_between_steps, whole

pytestmark = [
    *(pytest.mark.slow, pytest.mark.soak),
    pytest.mark.skipif(REAL, reason="a test of the pretended device"),
]
MIXED_DEVICES = "Expected all tensors to be on the same device, but found at least two devices"


def test_labels_left_on_the_host_are_found(
    gpu: torch.device, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = TrainSplit.batches

    def on_host(self: TrainSplit, *arguments: Any) -> Iterator[Any]:
        for images, labels in batches(self, *arguments):
            yield images, labels.cpu()

    monkeypatch.setattr(TrainSplit, "batches", on_host)
    with pytest.raises(RuntimeError, match=MIXED_DEVICES):
        whole(make_config(), data_dir, gpu)


def test_a_constant_on_the_host_is_found(
    gpu: torch.device, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = InputStage.__init__

    def on_host(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self._scale = self._scale.cpu()

    monkeypatch.setattr(InputStage, "__init__", on_host)
    with pytest.raises(RuntimeError, match=MIXED_DEVICES):
        whole(make_config(), data_dir, gpu)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda logits: logits.sum().item(), "item"),
        (lambda logits: logits.argmax().cpu(), "copy to host"),
        (lambda logits: logits * torch.tensor([1.0], device=logits.device), "copy from host"),
        (lambda logits: logits[logits > 0], "shape of index"),
    ],
    ids=["a value is read", "a copy is read", "a constant is made", "values decide a shape"],
)
def test_a_wait_in_each_step_is_found(
    fault: Any,
    reason: str,
    gpu: torch.device,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    def waits(logits: Any, *arguments: Any) -> None:
        check_logits(logits, *arguments)
        fault(logits.detach())

    monkeypatch.setattr(train_module, "check_logits", waits)
    found = waits_between_steps(make_config(epochs=1), gpu, data_dir)
    assert [why for why, _ in found] == [reason], found


def test_a_forgotten_generator_is_found(
    gpu: torch.device, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's is not seeded: dropout then draws on from wherever it was."""
    config = make_config(**CONFIGS["dropout"])
    assert whole(config, data_dir, gpu) == whole(config, data_dir, gpu)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: None)
    assert whole(config, data_dir, gpu) != whole(config, data_dir, gpu)


def test_a_generator_that_no_checkpoint_holds_is_found(
    gpu: torch.device, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**CONFIGS["dropout"])
    expected = whole(config, data_dir, gpu)
    assert cut(config, data_dir, gpu, gpu) == expected
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device="cuda": None)
    assert cut(config, data_dir, gpu, gpu) != expected


def test_a_generator_of_the_host_is_refused(gpu: torch.device) -> None:
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
        torch.rand(3, device=gpu, generator=torch.Generator())


def test_a_pageable_copy_waits_and_a_pinned_one_does_not(gpu: torch.device) -> None:
    from tests.gpu.pretend_cuda import LOG

    pinned = torch.zeros(8, dtype=torch.uint8, pin_memory=True)
    LOG.clear()
    pinned[:4].to(gpu, non_blocking=True)
    assert not LOG.waits
    assert LOG.host_bytes == {"torch.uint8": 4}
    torch.zeros(4, dtype=torch.uint8).to(gpu, non_blocking=True)
    pinned.to(gpu)
    assert LOG.waits.total() == 2
    # Another type is made on the host, so four times the bytes cross the bus.
    torch.empty(8, device=gpu).copy_(pinned)
    assert LOG.host_bytes["torch.float32"] == 32
