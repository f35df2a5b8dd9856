import sys
from types import SimpleNamespace

import torch

from cnncore.measure.device import device_name
from cnncore.measure.energy import EnergyMeter, energy_meter


def test_a_cpu_has_a_name_and_no_energy_meter():
    assert device_name(torch.device("cpu"))
    assert energy_meter(torch.device("cpu")) is None


def test_energy_is_the_difference_of_two_readings_in_joules():
    class FakeNvml:
        readings = iter([1_000_000, 1_002_500, 1_010_000])

        def nvmlDeviceGetTotalEnergyConsumption(self, handle):
            assert handle == "gpu"
            return next(self.readings)

    meter = EnergyMeter(FakeNvml(), "gpu")
    assert [meter.joules(), meter.joules()] == [2.5, 10.0]


def test_a_slice_of_a_gpu_has_no_energy_of_its_own(monkeypatch):
    class FakeNvml:
        NVMLError = RuntimeError
        nvmlInit = nvmlDeviceGetHandleByUUID = nvmlDeviceGetTotalEnergyConsumption = (
            lambda *arguments: 1_000
        )

    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    properties = SimpleNamespace(uuid="0a1b")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    for name, metered in (("NVIDIA A100", True), ("NVIDIA A100 MIG 1g.5gb", False)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert (energy_meter(torch.device("cuda")) is not None) == metered
