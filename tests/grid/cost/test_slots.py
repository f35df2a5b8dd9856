"""What this machine and its environment allow a trial."""

import pytest
import torch

from grid.cost import slots as slots_module
from grid.cost.slots import check_thread_limit, count_slots
from grid.errors import GridError
from grid.plan.plan import share_notes
from grid.sweep.spec import Resources


def test_fewer_threads_than_a_trial_asks_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_THREAD_LIMIT", "2")
    check_thread_limit(Resources(cpus=2))
    with pytest.raises(GridError, match=r"OMP_THREAD_LIMIT=2 .* fewer threads .*\(3\)"):
        check_thread_limit(Resources(cpus=3))


@pytest.mark.parametrize(
    ("share", "slots"),
    [("auto", 4), (1, 4), (0.5, 8), (0.6, 4), (0.35, 8), (0.1, 40), (1 / 7, 28), (1 / 49, 196)],
)
def test_slots_are_whole_trials_on_each_gpu(
    monkeypatch: pytest.MonkeyPatch, share: float, slots: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(slots_module, "machine_cpus", lambda: 256)
    assert count_slots(Resources(gpus=share), None, "cuda") == slots


@pytest.mark.parametrize(
    ("cpus", "blamed"),
    [
        (1, r"it has 2 GPUs, and a trial takes 0\.5 of one \(resources\.gpus\)"),
        (8, r"it has 16 CPU cores, and a trial takes 8 \(resources\.cpus\)"),
    ],
)
def test_too_many_slots_blame_what_is_short(
    monkeypatch: pytest.MonkeyPatch, cpus: int, blamed: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(slots_module, "machine_cpus", lambda: 16)
    with pytest.raises(GridError, match=f"--slots 9: this machine takes . trials .*{blamed}"):
        count_slots(Resources(cpus=cpus, gpus=0.5), 9, "cuda")


def test_a_share_that_leaves_a_part_of_a_gpu_unused_is_remarked() -> None:
    for whole in ("auto", 0, 1, 0.5, 0.33, 0.1, 1 / 7):
        assert share_notes(Resources(gpus=whole)) == []
    assert share_notes(Resources(gpus=0.4)) == [
        "resources.gpus 0.4: 2 trials at a time on a GPU, and 20% of it stays unused; 0.5 uses all "
        "of it"
    ]
