"""Trials that share a GPU, or follow one another on it: memory, energy, data of earlier ones."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cnncore.data import batches, load_dataset, resident
from cnncore.data.resident import split_images
from grid.store.folder import Store
from grid.trial import trial as trial_module
from grid.trial.assignment import Progress
from grid.trial.trial import run_trial
from tests.gpu.conftest import REAL
from tests.gpu.pretend_cuda import LOG
from tests.gpu.test_on_device import make_config, make_job

pytestmark = [
    *(pytest.mark.slow, pytest.mark.soak),
    pytest.mark.skipif(REAL, reason="the numbers are those of the pretended device"),
]
MIB = 2**20
TOTAL_MIB = 80_000


class Meter:
    """A meter that always shows 10 joules."""

    def joules(self) -> float:
        return 10.0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(trial_module, "energy_meter", lambda device: Meter())
    (tmp_path / "results").mkdir()
    return Store(tmp_path / "results")


def start(store: Store, data_dir: Path, **changes: Any) -> Iterator[Progress]:
    job = make_job(make_config(limit_train=64, arch="cnn3"), store, data_dir)
    return run_trial(replace(job, **changes), store)


@pytest.mark.parametrize(
    ("changes", "share", "energy_j", "limit"),
    [
        ({"gpu_share": 1.0}, 1.0, 10.0, 1.0),
        ({"gpu_share": 0.25}, 0.25, None, 0.25 - 600 / TOTAL_MIB),
        ({"gpu_share": 0.25, "alone": True}, 1.0, 10.0, 1.0),
    ],
)
def test_a_trial_has_its_share_of_the_memory_and_energy_only_of_a_whole_gpu(
    changes: dict[str, Any],
    share: float,
    energy_j: float | None,
    limit: float,
    gpu: torch.device,
    store: Store,
    data_dir: Path,
) -> None:
    *_, last = start(store, data_dir, **changes)
    assert last.row["state"] == "complete", last.row["reason"]
    assert (last.row["gpu_share"], last.row["energy_j"]) == (share, energy_j)
    assert pytest.approx(limit) == LOG.fraction


def test_the_memory_of_a_trial_is_free_before_its_end_is_reported(
    gpu: torch.device, store: Store, data_dir: Path
) -> None:
    """Its process may then wait for the next one, beside others that want the memory."""
    steps = start(store, data_dir, gpu_share=0.5)
    assert not next(steps).done
    before = LOG.emptied
    assert next(steps).done
    assert LOG.emptied > before


def test_a_trial_that_once_shared_its_gpu_has_no_energy(
    gpu: torch.device, store: Store, data_dir: Path
) -> None:
    steps = start(store, data_dir, gpu_share=0.5)
    next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator
    *_, last = start(store, data_dir, gpu_share=0.5, alone=True)
    assert (last.row["attempts"], last.row["gpu_share"], last.row["energy_j"]) == (2, 0.5, None)


def test_a_trial_that_began_on_a_cpu_has_no_energy(
    gpu: torch.device, store: Store, data_dir: Path
) -> None:
    steps = start(store, data_dir, device="cpu")
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    *_, last = start(store, data_dir, gpu_share=1.0)
    assert (last.row["attempts"], last.row["energy_j"]) == (2, None)


def test_a_trial_that_runs_out_of_memory_leaves_no_images_on_the_gpu(
    gpu: torch.device, store: Store, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that has the GPU to itself begin beside those of earlier trials."""
    at_start: list[int] = []

    def full(*arguments: Any, **options: Any) -> Iterator[Any]:
        at_start.append(len(resident._RESIDENT))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        yield

    monkeypatch.setattr(trial_module, "train", full)
    (last,) = start(store, data_dir, gpu_share=1.0)
    assert last.retry_alone is not None
    assert not resident._RESIDENT
    split_images(load_dataset("digits", data_dir, 16), "train", gpu)
    (last,) = start(store, data_dir, gpu_share=1.0, alone=True)
    assert last.row["reason"].startswith("out of memory, with nothing else on the device")
    assert at_start == [2, 2]


def test_cublas_has_a_workspace_that_repeats_unless_the_user_has_set_one(
    gpu: torch.device, store: Store, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, used in ((None, ":4096:8"), (":16:8", ":16:8")):
        if given is None:
            monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
        else:
            monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given)
        steps = start(store, data_dir)
        next(steps)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == used
        steps.close()  # type: ignore[attr-defined]


def test_the_deterministic_mode_of_a_trial_ends_with_it(
    gpu: torch.device, store: Store, data_dir: Path
) -> None:
    modes = torch.overrides._get_current_function_mode_stack()
    # At the images' own size: PyTorch's repeatable scaling makes tensors where the pretended device
    # does not see it.
    config = make_config(arch="mobilenet_small", limit_train=64, deterministic=True, image_size=8)
    job = make_job(config, store, data_dir)
    steps = run_trial(job, store)
    first = next(steps)
    assert not first.done, store.log(job.trial.trial_id).read_text()
    # Nor does the driver see it between two steps.
    assert torch.overrides._get_current_function_mode_stack() == modes
    assert not torch.are_deterministic_algorithms_enabled()
    last = next(steps)
    assert last.row["state"] == "complete", last.row["reason"]
    steps.close()
    assert torch.overrides._get_current_function_mode_stack() == modes


def test_images_of_earlier_trials_go_where_a_trial_wants_the_room(
    gpu: torch.device, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (load_dataset("digits", data_dir, side) for side in (16, 32))
    free = [TOTAL_MIB * MIB]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free[0], free[0]))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.__setitem__(0, TOTAL_MIB * MIB))
    kept = split_images(first, "train", gpu)
    assert kept.is_cuda
    assert split_images(first, "train", gpu) is kept
    free[0] = 0  # until the earlier data are dropped
    assert split_images(second, "train", gpu).is_cuda
    assert [key[0] for key in resident._RESIDENT] == [second]
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    free[0] = 0
    assert not split_images(second, "test", gpu).is_cuda
    assert [key[0] for key in resident._RESIDENT] == [second]
    # A share of the GPU is less room than what is free on it.
    free[0] = 8 * second.test_images.nbytes
    assert split_images(second, "test", gpu).is_cuda
    resident.drop_resident()
    torch.cuda.set_per_process_memory_fraction(0.25)
    assert not split_images(second, "test", gpu).is_cuda


@pytest.mark.parametrize(
    ("side", "share", "images"),
    [(32, 1.0, 1024), (224, 1.0, 204), (224, 0.25, 51), (224, 0.01, 20), (2048, 1.0, 16)],
)
def test_evaluation_batches_are_as_large_as_pixels_and_memory_allow(
    side: int, share: float, images: int, gpu: torch.device
) -> None:
    assert batches.eval_batch_size(side * side, gpu, share) == images
