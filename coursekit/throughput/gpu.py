"""Read load, memory, power, temperature and energy of the GPU through NVML.

    for gpu in read():
        print(gpu)

NVML is the library that nvidia-smi uses, and `nvidia-ml-py` makes it available in Python. Without an NVIDIA GPU, `read`
raises NoGpu, which says what is missing. "Utilisation" is the share of time in which some kernel ran, however little of
the GPU it used: 100 % says nothing about MFU (`flops`). Left out: GPUs of other makers.

Source: NVIDIA, NVML API reference, nvmlDeviceGetUtilizationRates, nvmlDeviceGetTotalEnergyConsumption (Volta and
later).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class NoGpu(Exception):
    """There is nothing to read; the message says why."""


@dataclass(frozen=True)
class Reading:
    """The state of one GPU at this moment. A value that the card does not report is None."""

    name: str
    used_bytes: int
    total_bytes: int
    utilisation: float | None  # 0 to 1, over the last sampling period
    power_watts: float | None  # of the whole card
    temperature_celsius: int | None
    energy_joules: float | None  # since the driver was loaded

    def __str__(self) -> str:
        parts = [f"{self.used_bytes / 2**30:.1f} of {self.total_bytes / 2**30:.1f} GiB"]
        for value, words in (
            (self.utilisation, "{:.0%} busy"),
            (self.power_watts, "{:.0f} W"),
            (self.temperature_celsius, "{} °C"),
        ):
            if value is not None:
                parts.append(words.format(value))
        return f"{self.name}: {', '.join(parts)}"


def read() -> list[Reading]:
    """One reading per GPU. Raises NoGpu if nvidia-ml-py, the driver or the card is missing."""
    with _nvml() as nvml:
        count = nvml.nvmlDeviceGetCount()
        if not count:
            raise NoGpu("the NVIDIA driver is installed, but there is no GPU. Nothing is measured.")
        return [_reading(nvml, nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(count)]


@contextmanager
def _nvml() -> Iterator:
    try:
        import pynvml
    except ImportError as error:
        raise NoGpu("nvidia-ml-py is not installed, so no GPU is read: pip install nvidia-ml-py.") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoGpu(f"there is no NVIDIA GPU to read on this machine ({error}).") from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _reading(nvml, handle) -> Reading:
    def ask(function, *arguments):
        try:
            return function(handle, *arguments)
        except nvml.NVMLError:  # "not supported": laptops hide their power, old cards have no energy counter
            return None

    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    rates = ask(nvml.nvmlDeviceGetUtilizationRates)
    milliwatts = ask(nvml.nvmlDeviceGetPowerUsage)
    millijoules = ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
    name = nvml.nvmlDeviceGetName(handle)
    return Reading(
        name.decode() if isinstance(name, bytes) else name,  # older releases return bytes
        memory.used,
        memory.total,
        None if rates is None else rates.gpu / 100,
        None if milliwatts is None else milliwatts / 1e3,
        ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
        None if millijoules is None else millijoules / 1e3,
    )
