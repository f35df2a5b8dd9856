"""What a run says when it ends."""

from rich.console import Console

from grid.cli.terminal import print_outcome
from grid.run.session import Summary


def test_trials_that_wait_are_counted_apart_from_those_that_never_ran(tmp_path, capsys):
    summary = Summary(tmp_path, 252, {"failed": 1}, 0, 61.0, True, unfinished=107, paused=104)
    print_outcome(summary, Console())
    output = capsys.readouterr()
    assert f"{tmp_path}: 1 failed, 104 paused, 3 not run; 0 trials in 1 min 1 s" in output.out
    assert "run the same command again to go on" in output.err
