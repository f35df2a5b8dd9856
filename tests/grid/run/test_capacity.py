"""Slots of a machine and of a cluster whose nodes come and go."""

from __future__ import annotations

import pytest

from grid.errors import GridError
from grid.run import capacity as module
from grid.run.capacity import Capacity, ClusterCapacity
from grid.sweep.spec import Resources


def test_each_trial_gets_the_lowest_free_slot() -> None:
    capacity = Capacity(3, "cpu")
    assert [capacity.take(name) for name in "abc"] == [0, 1, 2]
    assert capacity.full
    capacity.release("b")
    capacity.release("b")  # a second time does nothing
    assert not capacity.full
    assert capacity.take("d") == 1
    assert capacity.full


def test_the_slots_of_a_cluster_follow_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    have = {"CPU": 8.0, "GPU": 2.0}
    notes: list[str] = []
    capacity = ClusterCapacity(Resources(cpus=2, gpus=0.5), None, notes.append)
    capacity.refresh()  # nothing to read before the cluster is joined
    assert (capacity.slots, capacity.device) == (1, "cpu")
    capacity.join(lambda: have)
    assert (capacity.slots, capacity.device) == (4, "cuda")
    have.update(CPU=4.0)
    capacity.refresh()
    assert capacity.slots == 2
    have.clear()
    capacity.refresh()
    # One trial is handed out anyway: it starts on the first node that joins.
    assert capacity.slots == 1
    have.update(CPU=6.0, GPU=4.0)
    capacity.refresh()
    assert capacity.slots == 3
    assert notes == [
        "the cluster takes 2 trials at a time now",
        "the cluster has no room for a trial now: waiting for a node",
        "the cluster takes 3 trials at a time now",
    ]


def test_a_share_of_a_gpu_is_never_the_cpu() -> None:
    capacity = ClusterCapacity(Resources(gpus=0.5), None, lambda text: None)
    with pytest.raises(GridError, match=r"the cluster has no GPU, and a trial takes 0\.5 of one"):
        capacity.join(lambda: {"CPU": 8.0})


def test_no_trial_is_spread_over_two_gpus() -> None:
    """Two GPUs have room for 3.33 shares of 0.6, but each takes one."""
    capacity = ClusterCapacity(Resources(gpus=0.6), None, lambda text: None)
    capacity.join(lambda: {"CPU": 16.0, "GPU": 2.0})
    assert capacity.slots == 2


def test_more_slots_than_were_asked_for_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    have = {"CPU": 4.0}
    capacity = ClusterCapacity(Resources(), 2, lambda text: None)
    capacity.join(lambda: have)
    assert (capacity.slots, capacity.device) == (2, "cpu")
    have.update(CPU=16.0)
    capacity.refresh()
    assert capacity.slots == 2


@pytest.mark.parametrize(
    ("have", "slots", "problem"),
    [
        ({"CPU": 1.0}, None, "no room for one trial (2 CPU cores, 0 GPUs)"),
        ({"CPU": 4.0, "GPU": 0.5}, None, "no room for one trial (2 CPU cores, 1 GPUs)"),
        (
            {"CPU": 4.0},
            3,
            "--slots 3: the cluster takes 2 trials at a time: it has 4 CPU cores, and a trial "
            "takes 2 (resources.cpus)",
        ),
        (
            {"CPU": 64.0, "GPU": 1.0},
            3,
            "--slots 3: the cluster takes 1 trial at a time: it has 1 GPU, and a trial takes 1 of "
            "one (resources.gpus)",
        ),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(
    have: dict[str, float], slots: int | None, problem: str
) -> None:
    capacity = ClusterCapacity(Resources(cpus=2), slots, lambda text: None)
    with pytest.raises(GridError) as caught:
        capacity.join(lambda: have)
    assert problem in str(caught.value)
