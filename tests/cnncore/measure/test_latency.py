import pytest
import torch
from torch import nn

from cnncore.measure.device import device_name
from cnncore.measure.energy import energy_meter
from cnncore.measure.latency import FEWEST_RUNS, MOST_RUNS, WARM_UP_RUNS, measure_latency
from cnncore.measure.memory import peak_memory_mib, reset_peak_memory
from cnncore.models import build_model

CPU = torch.device("cpu")


class FakeClock:
    """Replacement of the module `time`; only networks advance its clock."""

    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s


class Slow(nn.Module):
    """Network whose runs take the given seconds of `clock`; the last value repeats."""

    def __init__(self, clock, *durations_s):
        super().__init__()
        self.clock, self.durations_s, self.runs = clock, list(durations_s), 0

    def forward(self, x):
        self.clock.now_s += self.durations_s[min(self.runs, len(self.durations_s) - 1)]
        self.runs += 1
        return x


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr("cnncore.measure.latency.time", clock)
    return clock


def test_a_slow_network_is_timed_five_times_after_the_warm_up(clock):
    warm_up = [9.0] * WARM_UP_RUNS
    model = Slow(clock, *warm_up, 0.5, 0.1, 0.2, 0.3, 0.4)
    latency = measure_latency(model, 4, batch_size=3, device=CPU, seconds=0.1)
    assert model.runs == WARM_UP_RUNS + FEWEST_RUNS
    assert latency.n == FEWEST_RUNS
    assert latency.p50_ms == pytest.approx(300.0)
    assert latency.p95_ms == pytest.approx(480.0)
    assert latency.images_per_s == pytest.approx(10.0)


def test_a_quick_network_is_timed_until_there_are_enough_runs(clock):
    latency = measure_latency(Slow(clock, 1e-6), 1, device=CPU, seconds=60.0)
    assert latency.n == MOST_RUNS
    assert latency.batch_size == 1


def test_time_ends_the_measurement_of_a_network_in_between(clock):
    latency = measure_latency(Slow(clock, 0.25), 1, device=CPU, seconds=5.0)
    assert latency.n == 20 - WARM_UP_RUNS


def test_the_network_sees_a_batch_of_channels_last_images_in_eval_mode_without_gradients():
    contexts = []

    class Witness(nn.Module):
        def forward(self, x):
            assert x.shape == (2, 3, 6, 6)
            assert x.is_contiguous(memory_format=torch.channels_last)
            modes = self.training, torch.is_inference_mode_enabled()
            contexts.append((*modes, torch.is_autocast_enabled("cpu")))
            return x

    model = Witness()
    measure_latency(model, 6, batch_size=2, device=CPU, precision="bf16", seconds=0.0)
    assert set(contexts) == {(False, True, True)}
    assert model.training


def test_timing_leaves_weights_statistics_and_random_state():
    model = build_model("mobilenet_small", classes=3, image_size=8).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    measure_latency(model, 8, batch_size=2, device=CPU, seconds=0.0)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in model.modules())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_is_timed_named_and_its_memory_and_energy_read():
    device = torch.device("cuda")
    model = build_model("resnet18", classes=10, image_size=32).to(device)
    reset_peak_memory(device)
    meter = energy_meter(device)
    assert measure_latency(model, 32, device=device, precision="bf16").p50_ms > 0
    assert peak_memory_mib(device) > 40
    assert device_name(device)
    assert meter is None or meter.joules() >= 0
