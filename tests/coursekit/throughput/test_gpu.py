"""NVML's answers put together; without a GPU a sentence."""

import sys
import types

import pytest

from coursekit.throughput import gpu


class NVMLError(Exception):
    pass


def stand_in(count=1, power=True):
    """A module like pynvml that knows one card of 16 GiB."""

    def refuse(handle):
        raise NVMLError("Not Supported")

    return types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        closed=[],
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"Card",
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=2**30, total=2**34),
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=75),
        nvmlDeviceGetPowerUsage=(lambda handle: 65_500) if power else refuse,
        nvmlDeviceGetTotalEnergyConsumption=(lambda handle: 3_000) if power else refuse,
        nvmlDeviceGetTemperature=lambda handle, sensor: 50,
    )


@pytest.fixture
def nvml(monkeypatch):
    def install(**kwargs):
        module = stand_in(**kwargs)
        module.nvmlShutdown = lambda: module.closed.append(True)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return module

    return install


def test_units_are_watts_joules_and_shares(nvml):
    module = nvml()
    assert gpu.read() == [gpu.Reading("Card", 2**30, 2**34, 0.75, 65.5, 50, 3.0)]
    assert str(gpu.read()[0]) == "Card: 1.0 of 16.0 GiB, 75% busy, 66 W, 50 °C"
    assert len(module.closed) == 2


def test_what_a_card_does_not_tell_is_none(nvml):
    nvml(power=False)
    (reading,) = gpu.read()
    assert reading.power_watts is None and reading.energy_joules is None
    assert str(reading) == "Card: 1.0 of 16.0 GiB, 75% busy, 50 °C"


def test_no_driver_no_card_no_package_are_sentences(nvml, monkeypatch):
    with pytest.raises(gpu.NoGpu, match="NVIDIA driver is installed, but there is no GPU"):
        nvml(count=0)
        gpu.read()
    module = nvml()

    def fail():
        raise NVMLError("NVML Shared Library Not Found")

    module.nvmlInit = fail
    with pytest.raises(gpu.NoGpu, match=r"no NVIDIA GPU to read on this machine \(NVML Shared"):
        gpu.read()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(gpu.NoGpu, match="pip install nvidia-ml-py"):
        gpu.read()


def test_the_real_package_has_all_that_is_called():
    """The names of the stand-in are those of nvidia-ml-py."""
    import pynvml

    wanted = {name for name in vars(stand_in()) if name.lower().startswith("nvml")}
    assert wanted <= set(dir(pynvml))


@pytest.mark.gpu
def test_a_real_card_tells_its_memory():
    import torch

    names = [reading.name for reading in gpu.read()]
    assert torch.cuda.get_device_name(0) in names
