"""What plan and doctor say of a machine's GPUs; none is there, so the driver's answers are set."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import torch

from grid import load_sweep
from grid.api import make_plan
from grid.cli import doctor
from grid.cost import devices, slots
from grid.cost.devices import count_gpus, device_notes, gpu_names
from grid.cost.slots import pick_device
from grid.errors import GridError, SweepError
from grid.plan.plan import Plan
from grid.run.driver import Driver
from grid.sweep.spec import Resources

Write = Callable[..., Path]
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040). Please update ..."


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the machine GPUs by name, with a compute capability."""

    def have(*names: str, capability: tuple[int, int] = (9, 0)) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        for module in (devices, slots):
            monkeypatch.setattr(module, "may_have_gpu", lambda: True)

    return have


def small_plan(write_sweep: Write, data_dir: Path, **changes: object) -> Plan:
    return make_plan(load_sweep(write_sweep(**changes)), data_dir=data_dir)


@pytest.mark.parametrize(
    ("visible", "init", "why"),
    [
        (None, OLD_DRIVER, "driver on your system is too old (found version 11040)"),
        ("0", OLD_DRIVER, "driver on your system is too old (found version 11040)"),
        ("", "No CUDA GPUs are available", "CUDA_VISIBLE_DEVICES='' hides all GPUs: unset it"),
        ("GPU-1a2b", "No CUDA GPUs are available", "CUDA_VISIBLE_DEVICES=GPU-1a2b names no GPU"),
        (None, "", "CUDA finds none"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_never_silently_the_cpu(
    gpus: Callable[..., None],
    write_sweep: Write,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    init: str,
    why: str,
) -> None:
    def fail() -> None:
        if init:
            raise RuntimeError(init)

    gpus()
    monkeypatch.setattr(torch.cuda, "init", fail)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    plan = small_plan(write_sweep, data_dir, resources={"gpus": "auto"})
    assert pick_device(plan.spec.resources) == "cpu"
    (note,) = device_notes(plan, "cpu")
    assert note.startswith("this machine has a GPU, but trials run on the CPU: ")
    assert why in note
    with pytest.raises(GridError) as caught:
        pick_device(Resources(gpus=0.5))
    assert why in str(caught.value)
    check = doctor._gpu()
    assert (check.ok, why in check.detail) == (False, True)
    assert device_notes(small_plan(write_sweep, data_dir, resources={"gpus": 0}), "cpu") == []


def test_a_pytorch_for_cpus_alone_says_so(
    gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(GridError, match=r"is built for CPUs alone: install one built for CUDA"):
        pick_device(Resources(gpus=1))


def test_tf32_is_refused_where_there_is_none_with_the_line(
    gpus: Callable[..., None], write_sweep: Write, data_dir: Path
) -> None:
    fixed = {"precision": "tf32"}
    plan = small_plan(write_sweep, data_dir, fixed=fixed, resources={"gpus": 0})
    where = r"sweep\.yaml:\d+: fixed.precision: tf32: "
    with pytest.raises(SweepError, match=rf"{where}trials run on the CPU here, which has no TF32"):
        device_notes(plan, "cpu")
    gpus("Tesla T4", capability=(7, 5))
    with pytest.raises(SweepError, match=rf"{where}Tesla T4 has no TF32"):
        device_notes(plan, "cuda")
    gpus("NVIDIA A100")
    assert device_notes(plan, "cuda") == ["trials run on NVIDIA A100"]


def test_bf16_in_software_is_remarked_in_plan_and_doctor(
    gpus: Callable[..., None], write_sweep: Write, data_dir: Path
) -> None:
    plan = small_plan(write_sweep, data_dir, fixed={"precision": "bf16"})
    gpus("Tesla T4", "Tesla T4", capability=(7, 5))
    device, note = device_notes(plan, "cuda")
    assert device == "trials run on 2 x Tesla T4"
    assert note.startswith("precision bf16: Tesla T4 computes it in software, slower than fp32")
    assert "bf16 in software" in doctor._gpu().detail
    gpus("NVIDIA A100")
    assert device_notes(plan, "cuda") == ["trials run on NVIDIA A100"]


def test_slices_of_a_gpu_are_counted_and_named(
    gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus("NVIDIA A100 MIG 1g.5gb")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0a1b,MIG-2c3d,MIG-4e5f")
    assert count_gpus() == 3  # CUDA shows a process the first alone
    assert "MIG 1g.5gb (a slice: its energy cannot be told" in gpu_names()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-0a1b")
    assert count_gpus() == 1


@pytest.mark.parametrize(
    ("gpus", "device", "local", "share"),
    [
        ("auto", "cuda", False, 1.0),
        (0.25, "cuda", False, 0.25),
        (0.25, "cuda", True, 1.0),  # one trial at a time
        ("auto", "cpu", False, None),
        ("auto", "cpu", True, None),
    ],
)
def test_a_trial_is_told_its_share(
    gpus: Literal["auto"] | float, device: str, local: bool, share: float | None
) -> None:
    spec = SimpleNamespace(resources=Resources(gpus=gpus))
    driver = SimpleNamespace(
        plan=SimpleNamespace(spec=spec),
        capacity=SimpleNamespace(device=device),
        options=SimpleNamespace(local=local),
    )
    assert Driver._gpu_share(driver) == share  # type: ignore[arg-type]
