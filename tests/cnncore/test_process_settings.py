"""Every global that a network may change is noticed and put back."""

import builtins
import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from cnncore.process_settings import ProcessSettings, random_states_kept, unchanged


class Mode(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def pack(tensor):
    return tensor


CHANGES = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's grad mode": lambda: torch.set_grad_enabled(False),
    "torch's threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's deterministic mode": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "torch's precision of float32": lambda: torch.set_float32_matmul_precision("high"),
    "torch.backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch.backends.mkldnn.enabled": lambda: torch.backends.mkldnn.set_flags(False),
    "flash attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "fast attention": lambda: torch.backends.mha.set_fastpath_enabled(False),
    "autocast on cpu": lambda: torch.set_autocast_enabled("cpu", True),
    "torch's anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "flushing of denormal numbers": lambda: torch.set_flush_denormal(True),
    "torch's forward hooks of all modules": lambda: (
        torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    ),
    "torch's function and dispatch modes": lambda: Mode().__enter__(),
    "torch's hooks for saved tensors": lambda: saved_tensors_hooks(pack, pack).__enter__(),
    "NumPy's error handling": lambda: np.seterr(all="raise"),
    "torch's printing": lambda: torch.set_printoptions(precision=2),
    "NumPy's printing": lambda: np.set_printoptions(precision=2),
    "the working folder": lambda: os.chdir("/"),
    "the environment": lambda: os.environ.update(CNNGRID_TEST="1"),
    "the umask": lambda: os.umask(0o011),
    "the locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    "signal handlers": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "Python's built-in names": lambda: setattr(builtins, "print", lambda *_: None),
    "sys.stdout": lambda: setattr(sys, "stdout", None),
    "the recursion limit": lambda: sys.setrecursionlimit(5000),
    "garbage collection": gc.disable,
}
QUIET_CHANGES = (
    lambda: warnings.simplefilter("error"),
    lambda: sys.path.append("/nowhere"),
    lambda: logging.disable(logging.CRITICAL),
)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_put_back(name):
    before = ProcessSettings()
    with unchanged() as changed:
        CHANGES[name]()
        noticed = before.changed()
    assert changed == noticed == [name]
    assert before.changed() == []


def test_all_at_once_are_put_back_and_set_again():
    before = ProcessSettings()
    try:
        for change in (*CHANGES.values(), *QUIET_CHANGES):
            change()
        within = before.swap()
        assert before.swap() is None
        within.put_back()
        assert before.changed() == list(CHANGES)
    finally:
        before.put_back()
    assert before.swap() is None


def test_timers_and_threads_that_are_left_are_named():
    over = threading.Event()
    with unchanged() as changed:
        signal.setitimer(signal.ITIMER_VIRTUAL, 1000)  # pytest has the other one
        threading.Thread(target=over.wait, daemon=True).start()
    over.set()
    assert changed == ["timers", "threads that it left running"]
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_random_generators_go_on_as_if_nothing_had_been_drawn():
    with random_states_kept():
        first = random.random(), np.random.rand(), torch.rand(()).item()
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == first
