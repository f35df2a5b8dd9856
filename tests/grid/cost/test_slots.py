"""What this machine and its environment allow a trial."""

import pytest

from grid.cost.slots import check_thread_limit
from grid.errors import GridError
from grid.sweep.spec import Resources


def test_fewer_threads_than_a_trial_asks_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_THREAD_LIMIT", "2")
    check_thread_limit(Resources(cpus=2))
    with pytest.raises(GridError, match=r"OMP_THREAD_LIMIT=2 .* fewer threads .*\(3\)"):
        check_thread_limit(Resources(cpus=3))
