import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from cnncore.seeding import derive_seed, seed_epoch, seed_everything


@pytest.mark.slow
def test_derived_seeds_are_the_same_in_another_process():
    code = "from cnncore.seeding import derive_seed; print(derive_seed(7, 'order', 3))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert int(printed) == derive_seed(7, "order", 3) == 3346565339597602479


def test_streams_of_one_seed_differ():
    streams = [(), ("order", 1), ("order", 2), ("order", "1"), ("order1",), ("augment", 1)]
    seeds = {derive_seed(seed, *names) for seed in (0, 1) for names in streams}
    assert len(seeds) == 2 * len(streams)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeding_everything_repeats_all_three_generators():
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(2**40 + 1)
    first = draws()
    seed_everything(2**40 + 1)
    assert draws() == first
    seed_epoch(2**40 + 1)
    assert float(torch.rand(())) == first[2]
