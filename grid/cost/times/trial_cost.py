"""Time and memory of one trial: from trials measured here, else from counted operations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from cnncore.config import TrialConfig, network_options
from cnncore.data.cache import ImageData
from cnncore.error_text import error_line, own_line
from grid.code.stored import code_used
from grid.cost.times.machine import BUSY, device_key, machine_speed
from grid.cost.times.measured import Measurement, read_measurements, speed_key
from grid.cost.times.speed import Speed, least_memory_bytes, memory_bytes
from grid.errors import GridError
from grid.plan.plan import Plan
from grid.plan.planned_data import SplitSizes, data_of, sizes_key, split_sizes

if TYPE_CHECKING:
    from cnncore.measure.network_operations import NetworkOperations

# Where a trial's time comes from, the best first, and the factor within which the truth is
# expected.
Basis = Literal["trials", "probe", "counted", "unknown"]
RANGE: Mapping[Basis, float] = {"trials": 1.15, "probe": 1.3, "counted": 2.0, "unknown": 2.0}
# Images of an evaluation batch on which its time is counted.
EVAL_IMAGES = 64
# Seconds of a trial beside training and evaluation: its latency is measured for this long on one
# image and on sixteen, or for eight runs (`cnncore/measure/latency.py`) ...
LATENCY_S, LATENCY_RUNS = 0.1, 8
# ... the weights are drawn and the network is built twice, to be trained and to be counted,
# checkpoints are written: seconds for each element, and for each tensor (AMD EPYC, torch 2.14) ...
ELEMENT_S, TENSOR_S = 2.5e-8, 1e-3
# ... and rows are stored: in all and after each epoch.
TRIAL_S, EPOCH_S = 0.15, 0.015
MIB = 2**20


@dataclass(frozen=True)
class TrialCost:
    """Seconds of training and of evaluating one image, and of the rest of a trial; its memory.

    `samples` counts the trials or probes that it comes from.
    """

    train_s: float
    eval_s: float
    fixed_s: float
    epoch_s: float
    memory_mib: float
    basis: Basis
    samples: int = 0

    def seconds(self, epochs: int, sizes: SplitSizes) -> float:
        """Return the wall time of a trial with so many epochs."""
        evaluated = sizes.val * epochs + sizes.test
        trained = sizes.train * epochs
        return (
            trained * self.train_s + evaluated * self.eval_s + epochs * self.epoch_s + self.fixed_s
        )


@dataclass
class TrialCosts:
    """Costs of a plan's configs on `device`, where `beside` trials run at a time."""

    plan: Plan
    data_dir: Path
    device: str
    beside: int
    _speeds: dict[str, Speed] = field(default_factory=dict)
    _known: dict[str, list[Measurement]] = field(default_factory=dict)
    _sizes: dict[str, SplitSizes] = field(default_factory=dict)
    _inputs: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Threads of a trial."""
        return self.plan.spec.resources.cpus

    @property
    def busy(self) -> bool:
        """True if other work disturbed the measurement of the machine."""
        return any(speed.measured.busy > BUSY for speed in self._speeds.values())

    def key(self, config: TrialConfig) -> str:
        """Return the key of a config's measurements."""
        return speed_key(config, device_key(self.device), self.threads)

    def read(self, configs: Iterable[TrialConfig]) -> None:
        """Read what was measured before of these configs."""
        self._known = read_measurements({self.key(config) for config in configs})

    def measured(self, config: TrialConfig) -> list[Measurement]:
        """Return the measurements of a config: those of whole trials, if there are any."""
        known = self._known.get(self.key(config), [])
        return [one for one in known if one.fixed_s is not None] or known

    def data(self, config: TrialConfig) -> ImageData:
        """Return the data of a config, as far as the plan knows them."""
        return data_of(self.plan, config, self.data_dir)

    def sizes(self, config: TrialConfig) -> SplitSizes:
        """Count the images of each split; of folds, those of the first."""
        key = sizes_key(config)
        if key not in self._sizes:
            self._sizes[key] = split_sizes(self.plan, config, self.data_dir)
        return self._sizes[key]

    def of(self, config: TrialConfig) -> TrialCost:
        """Return the cost of a config. Raises `GridError` if it cannot be trained here."""
        try:
            with code_used(self.plan.resolver.code.earlier_folder(config)):
                return self._of(config)
        except GridError:
            raise
        except (Exception, SystemExit) as error:
            place = f" ({line})" if (line := own_line(error)) else ""
            raise GridError(
                f"{_described(config)} cannot be trained on this machine: "
                f"{error_line(error)}{place}"
            ) from None

    def _of(self, config: TrialConfig) -> TrialCost:
        network = self.network(config)
        memory_mib = memory_bytes(network, config) / MIB
        self._check_memory(config, network)
        speed = self.speed(config.precision)
        known = self.measured(config)
        counted = self._counted(config, network, speed, memory_mib)
        if not known:
            return counted

        def slower(images: int, measurement: Measurement) -> float:
            ours = speed.slowdown(network, images, self.beside)
            return ours / speed.slowdown(network, images, measurement.beside)

        fixed = [one.fixed_s for one in known if one.fixed_s is not None]
        return TrialCost(
            train_s=median(one.train_s * slower(config.batch_size, one) for one in known),
            eval_s=median(one.eval_s * slower(EVAL_IMAGES, one) for one in known),
            fixed_s=median(fixed) if fixed else counted.fixed_s,
            epoch_s=0.0 if fixed else counted.epoch_s,
            memory_mib=memory_mib,
            basis="trials" if fixed else "probe",
            samples=len(known),
        )

    def _check_memory(self, config: TrialConfig, network: NetworkOperations) -> None:
        """Raise `GridError` for a network that this machine certainly has no room for."""
        from cnncore.measure.memory import total_memory_mib

        import torch  # isort: skip

        needed_mib = least_memory_bytes(network, config) / MIB
        if needed_mib > (has_mib := total_memory_mib(torch.device(self.device))):
            raise GridError(
                f"{_described(config)} cannot be trained on this machine: it needs "
                f"{needed_mib:,.0f} MiB or more of {has_mib:,.0f}; make the network, image_size or "
                "batch_size smaller"
            )

    def _counted(
        self, config: TrialConfig, network: NetworkOperations, speed: Speed, memory_mib: float
    ) -> TrialCost:
        train_input_s, eval_input_s = self._input(config)
        batch = config.batch_size
        slower = speed.slowdown(network, batch, self.beside)
        step_s = speed.step_s(network, config)
        views = 2 if config.tta else 1
        forward_s = views * speed.forward_s(network.operations, EVAL_IMAGES) / EVAL_IMAGES
        latency_s = sum(
            max(LATENCY_S, LATENCY_RUNS * speed.forward_s(network.operations, images))
            for images in (1, 16)
        )
        return TrialCost(
            train_s=(step_s / batch + train_input_s) * slower,
            eval_s=(forward_s + eval_input_s) * slower,
            fixed_s=TRIAL_S
            + latency_s * slower
            + network.elements * ELEMENT_S
            + network.tensors * TENSOR_S,
            epoch_s=EPOCH_S,
            memory_mib=memory_mib,
            basis="counted" if network.operations else "unknown",
        )

    def network(self, config: TrialConfig) -> NetworkOperations:
        """Count the operations of a config's network; its code runs, and nothing else."""
        from cnncore.complexity import network_operations
        from cnncore.process_settings import random_states_kept, unchanged

        assert config.image_size is not None
        with unchanged(), random_states_kept():
            return network_operations(
                config.arch,
                classes=len(self.data(config).class_names),
                image_size=config.image_size,
                freeze=config.freeze is not None,
                **network_options(config),
            )

    def speed(self, precision: str) -> Speed:
        """Return the speed of the machine, measured at most once."""
        if precision not in self._speeds:
            measured = machine_speed(self.device, self.threads, precision, self.beside)
            self._speeds[precision] = Speed(measured, self.device)
        return self._speeds[precision]

    def _input(self, config: TrialConfig) -> tuple[float, float]:
        """Return the seconds of making one image of a batch, for training and for evaluation."""
        from cnncore.process_settings import random_states_kept, unchanged
        from cnncore.training.openmp import use_threads
        from cnncore.training.speed.inputs import input_seconds

        import torch  # isort: skip

        stored_side = self.data(config).train_images.shape[1]
        keys = {"image_size", "augment", "enhance", "eval_crop", "tta", "quirk", "batch_size"}
        key = f"{stored_side} {config.model_dump_json(include=keys)}"
        if key not in self._inputs:
            with unchanged(), random_states_kept():
                use_threads(self.threads)
                self._inputs[key] = input_seconds(config, stored_side, torch.device(self.device))
        return self._inputs[key]


def _described(config: TrialConfig) -> str:
    return (
        f"{config.arch} on {config.dataset} with image_size {config.image_size} and batch_size "
        f"{config.batch_size}"
    )


def factors(parts: Iterable[tuple[float, Basis]]) -> tuple[float, float]:
    """Return the factors from a sum of seconds to the ends of its range, by its parts' bases."""
    total = low = high = 0.0
    for seconds, basis in parts:
        total += seconds
        low += seconds / RANGE[basis]
        high += seconds * RANGE[basis]
    if not total or not math.isfinite(total):
        return 1.0, 1.0
    return low / total, high / total
