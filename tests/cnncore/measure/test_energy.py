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
