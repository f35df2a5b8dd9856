"""Settings of the whole process that a user's network can change: taken, compared, put back.

A process trains one trial after another, so what one trial leaves behind would change the numbers
of the next. A new global of torch's or Python's needs a line in `_settings`.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import overrides
from torch.nn.modules import module as torch_modules
from torch.optim import optimizer as torch_optimizers
from torch.utils import _python_dispatch
from torch.utils._device import DeviceContext


@dataclass(frozen=True)
class _Setting:
    """One setting; a quiet one changes without anybody's fault, for example by an import."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    quiet: bool = False
    # It cannot be put back, or not for the network's own next step.
    stays: bool = False

    def value(self) -> Any:
        try:
            return self.get()
        except Exception as error:  # for example, the working folder was deleted
            return repr(error)


class ProcessSettings:
    """The settings at one moment."""

    def __init__(self) -> None:
        self._values = {setting.name: setting.value() for setting in _settings()}

    def changed(self) -> list[str]:
        """Return the names of settings that are no longer what they were."""
        return [setting.name for setting in self._differing() if not setting.quiet]

    def put_back(self) -> list[str]:
        """Put every setting back to what it was; return the names of those that had changed."""
        differing = self._differing()
        for setting in differing:
            with contextlib.suppress(Exception):  # seen below
                setting.put(self._values[setting.name])
        stays = {setting.name for setting in _settings() if setting.stays}
        if stuck := [name for name in self.changed() if name not in stays]:
            logging.getLogger(__name__).warning("cannot be put back: %s", ", ".join(stuck))
        return [setting.name for setting in differing if not setting.quiet]

    def swap(self) -> ProcessSettings | None:
        """Put every setting back; return the settings until now if any of them differed."""
        if not self._differing():
            return None
        now = ProcessSettings()
        self.put_back()
        return now

    def _differing(self) -> list[_Setting]:
        return [setting for setting in _settings() if setting.value() != self._values[setting.name]]


class SettingChanges:
    """The settings that a network changed when it was built (put back), and changes from now on."""

    def __init__(self, when_built: list[str]) -> None:
        self._when_built = list(dict.fromkeys(when_built))
        self._from_now_on = ProcessSettings()

    def __str__(self) -> str:
        parts = (("built", self._when_built), ("trained", self._from_now_on.changed()))
        return "; ".join(f"{', '.join(names)} (when {when})" for when, names in parts if names)


@contextlib.contextmanager
def unchanged() -> Iterator[list[str]]:
    """Put back every setting at the end; the yielded list then has the names of the changed."""
    before = ProcessSettings()
    changed: list[str] = []
    try:
        yield changed
    finally:
        changed += before.put_back()


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the global random generators (of the CPU) back at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@functools.cache
def _settings() -> tuple[_Setting, ...]:
    return (
        _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        _Setting("torch's default device", torch.get_default_device, _put_device),
        _Setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
        _Setting("torch's threads", torch.get_num_threads, torch.set_num_threads),
        _Setting("torch's deterministic mode", _deterministic, _put_deterministic),
        _attribute(
            "torch's filling of new memory", torch.utils.deterministic, "fill_uninitialized_memory"
        ),
        _Setting("torch's precision of float32", _precisions, _put_precisions),
        *_torch_flags(),
        *_autocast(),
        _Setting("torch's anomaly mode", _anomaly, _put_anomaly),
        _Setting("flushing of denormal numbers", _flushes_denormal, torch.set_flush_denormal),
        *_hooks(),
        _Setting("torch's function and dispatch modes", _modes, _put_modes),
        _Setting("torch's hooks for saved tensors", _saved_tensor_hooks, _put_saved_tensor_hooks),
        _Setting("timers", _timers, _stop_timers, stays=True),
        _Setting("threads that it left running", _threads, lambda _: None, stays=True),
        _Setting("NumPy's error handling", np.geterr, lambda kinds: np.seterr(**kinds)),
        _Setting("torch's printing", _torch_printing, _put_torch_printing),
        _Setting("NumPy's printing", np.get_printoptions, lambda now: np.set_printoptions(**now)),
        _Setting("the working folder", os.getcwd, os.chdir),
        _Setting("the environment", _environment, _refill(os.environ)),
        _Setting("the umask", _umask, os.umask),
        _Setting("the locale", lambda: locale.setlocale(locale.LC_ALL), _put_locale),
        _Setting("signal handlers", _signal_handlers, _put_signal_handlers),
        _Setting("Python's built-in names", lambda: dict(vars(builtins)), _refill(vars(builtins))),
        *(_attribute(f"sys.{name}", sys, name) for name in ("stdin", "stdout", "stderr")),
        _Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        _Setting(
            "garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()
        ),
        _Setting("logging", _logging, _put_logging, quiet=True),
        _Setting(
            "sys.path", lambda: list(sys.path), lambda path: _fill(sys.path, path), quiet=True
        ),
        _Setting("warnings", lambda: list(warnings.filters), _put_warnings, quiet=True),
    )


def _attribute(name: str, owner: Any, attribute: str) -> _Setting:
    return _Setting(
        name, lambda: getattr(owner, attribute), lambda value: setattr(owner, attribute, value)
    )


def _refill(target: MutableMapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return a function that gives a mapping its earlier content."""

    def put(content: dict[str, Any]) -> None:
        for key in set(target) - set(content):
            del target[key]
        for key, value in content.items():
            if key not in target or target[key] is not value:
                target[key] = value

    return put


def _fill(target: list[Any], content: list[Any]) -> None:
    target[:] = content


# -- torch -----------------------------------------------------------------------------------


def _put_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _deterministic() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _put_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _precision_owners() -> Iterator[Any]:
    """Yield the objects with a precision of 32-bit products, an outer one before its parts."""
    backends = torch.backends
    yield from (backends, backends.cuda.matmul)
    for backend in (backends.cudnn, backends.mkldnn):
        yield backend
        yield from (getattr(backend, part, None) for part in ("matmul", "conv", "rnn"))


def _precisions() -> tuple[str | None, bool | None, list[Any]]:
    owners = [getattr(owner, "fp32_precision", None) for owner in _precision_owners()]
    return _matmul_precision(), _allows_tf32(), owners


def _matmul_precision() -> str | None:
    """Return the precision by torch's older interface, None if the newer one contradicts it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _allows_tf32() -> bool | None:
    """Return cuDNN's switch of the older interface, None if the newer one contradicts it."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:
        return None


def _put_precisions(value: tuple[str | None, bool | None, list[Any]]) -> None:
    if value[0] is not None:
        torch.set_float32_matmul_precision(value[0])
    if value[1] is not None:
        torch.backends.cudnn.allow_tf32 = value[1]
    for owner, precision in zip(_precision_owners(), value[2], strict=True):
        if precision is not None:
            owner.fp32_precision = precision


def _torch_flags() -> Iterator[_Setting]:
    """Yield the switches by which torch chooses its algorithms."""
    backends = torch.backends
    for place, owner, names in (
        ("cudnn", backends.cudnn, ("enabled", "benchmark", "benchmark_limit", "deterministic")),
        (
            "cuda.matmul",
            backends.cuda.matmul,
            (
                "allow_fp16_reduced_precision_reduction",
                "allow_bf16_reduced_precision_reduction",
                "allow_fp16_accumulation",
            ),
        ),
        ("mkldnn", backends.mkldnn, ("enabled", "deterministic")),
    ):
        for name in names:
            if hasattr(owner, name):
                yield _attribute(f"torch.backends.{place}.{name}", owner, name)
    cuda, mha = backends.cuda, backends.mha
    yield _Setting("flash attention", cuda.flash_sdp_enabled, cuda.enable_flash_sdp)
    yield _Setting(
        "efficient attention", cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp
    )
    yield _Setting("math attention", cuda.math_sdp_enabled, cuda.enable_math_sdp)
    yield _Setting("cuDNN attention", cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp)
    yield _Setting("fast attention", mha.get_fastpath_enabled, mha.set_fastpath_enabled)


def _autocast() -> Iterator[_Setting]:
    for device in ("cpu", "cuda"):
        yield _Setting(
            f"autocast on {device}",
            functools.partial(_autocast_on, device),
            functools.partial(_put_autocast_on, device),
        )


def _autocast_on(device: str) -> tuple[bool, torch.dtype, bool]:
    return (
        torch.is_autocast_enabled(device),
        torch.get_autocast_dtype(device),
        torch.is_autocast_cache_enabled(),
    )


def _put_autocast_on(device: str, value: tuple[bool, torch.dtype, bool]) -> None:
    torch.set_autocast_enabled(device, value[0])
    torch.set_autocast_dtype(device, value[1])
    torch.set_autocast_cache_enabled(value[2])


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _put_anomaly(value: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*value)


def _flushes_denormal() -> bool:
    """Compute with a denormal number, because torch has no question for it."""
    return not bool(torch.full((), 1e-310, dtype=torch.float64, device="cpu") * 1.0)


def _hooks() -> Iterator[_Setting]:
    """Yield the hooks that run in every module and every optimizer."""
    for owner in (torch_modules, torch_optimizers):
        for name, hooks in vars(owner).items():
            if name.startswith("_global_") and isinstance(hooks, MutableMapping):
                yield _Setting(
                    f"torch's {name.removeprefix('_global_').replace('_', ' ')} of all modules",
                    functools.partial(dict, hooks),
                    _refill(hooks),
                )


def _modes() -> tuple[list[Any], list[Any]]:
    """Return the modes that are entered, for functions and for operations."""
    functions: list[Any] = overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    # The default device is a mode too, and a setting of its own.
    functions = [mode for mode in functions if not isinstance(mode, DeviceContext)]
    return functions, list(_python_dispatch._get_current_dispatch_mode_stack())


def _put_modes(value: tuple[list[Any], list[Any]]) -> None:
    for mode in reversed(_modes()[0]):
        if mode not in value[0]:
            overrides._pop_mode()  # type: ignore[no-untyped-call]  # torch has no types here
    for mode in reversed(_modes()[1]):
        if mode not in value[1]:
            _python_dispatch._pop_mode()
    now = _modes()
    for mode in value[0]:
        if mode not in now[0]:
            overrides._push_mode(mode)  # type: ignore[no-untyped-call]
    for mode in value[1]:
        if mode not in now[1]:
            _python_dispatch._push_mode(mode)


def _saved_tensor_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _put_saved_tensor_hooks(value: Any) -> None:
    while _saved_tensor_hooks() not in (None, value):
        torch._C._autograd._pop_saved_tensors_default_hooks()
    if value is not None and _saved_tensor_hooks() is None:
        torch._C._autograd._push_saved_tensors_default_hooks(*value)


def _torch_printing() -> dict[str, Any]:
    return dict(vars(torch._tensor_str.PRINT_OPTS))


def _put_torch_printing(value: dict[str, Any]) -> None:
    vars(torch._tensor_str.PRINT_OPTS).update(value)


# -- the process -----------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    """Return the environment but for the variables that torch sets as it goes."""
    return {key: value for key, value in os.environ.items() if "TORCHINDUCTOR" not in key}


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _timers() -> tuple[bool, ...]:
    """Return which timers run: one that is left ends the process, or another trial."""
    return tuple(signal.getitimer(timer)[0] > 0 for timer in _TIMERS)


def _stop_timers(before: tuple[bool, ...]) -> None:
    for timer, ran in zip(_TIMERS, before, strict=True):
        if not ran:
            signal.setitimer(timer, 0)


_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def _threads() -> frozenset[threading.Thread]:
    """Return the threads of Python that run, but for our own watch."""
    return frozenset(
        thread for thread in threading.enumerate() if not thread.name.startswith("busy-")
    )


def _put_locale(value: str) -> None:
    locale.setlocale(locale.LC_ALL, value)


def _signal_handlers() -> dict[int, Any]:
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def _put_signal_handlers(value: dict[int, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # nor can the network have changed them there
    for number, handler in value.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _logging() -> tuple[int, int, list[Any]]:
    return logging.root.manager.disable, logging.root.level, copy(logging.root.handlers)


def _put_logging(value: tuple[int, int, list[Any]]) -> None:
    logging.disable(value[0])
    logging.root.setLevel(value[1])
    logging.root.handlers[:] = value[2]


def _put_warnings(value: list[Any]) -> None:
    warnings.resetwarnings()  # forgets what it has decided by the filters
    _fill(warnings.filters, value)  # type: ignore[arg-type]  # a list, typed as a sequence
