"""Tell the energy, CO2 and price of a run: measured where the machine has a meter, else estimated from assumptions.

    with EnergyMeter() as meter:
        train()
    print(footprint(meter.joules, meter.seconds, meter.source))        # if meter.source
    print(estimate_energy(seconds=3600, watts=70, utilisation=0.8))

    kWh at the socket = W x h x utilisation x PUE / 1000        g CO2e = kWh x g/kWh of the grid

    >>> run = estimate_energy(seconds=3600, watts=1000, pue=1.5, grams_per_kwh=400)
    >>> run.kwh, run.co2_grams
    (1.5, 600.0)

A result prints what it rests on, because the assumptions matter more than the digits: the grid alone can change the
answer several times over. Left out: making the hardware, and the runs that failed before this one.

Source of the method: Lannelongue, Grealey, Inouye, Green Algorithms, Advanced Science 8(12), 2021; Strubell et al. 2019
(arXiv:1906.02243), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

JOULES_PER_KWH = 3_600_000


@dataclass(frozen=True)
class Assumption:
    """A number that was not measured: its name, value and unit, its source and the year."""

    name: str
    value: float
    unit: str
    source: str
    year: int | None = None

    def __str__(self) -> str:
        year = f", {self.year}" if self.year else ""
        return f"{self.name} {self.value:g} {self.unit}".strip() + f" ({self.source}{year})"


EMBER = "Ember, Global Electricity Review 2025"
UPTIME = "Uptime Institute, Global Data Center Survey: average"
CORE = "Green Algorithms, TDP_cpu.csv: a core of any processor"

DEFAULTS = {
    "PUE": Assumption("PUE", 1.58, "", UPTIME, 2023),
    "grid intensity": Assumption("grid intensity", 473.0, "g CO2e/kWh", f"{EMBER}: world average", 2024),
}
GRIDS = {  # g CO2e/kWh, over the whole life of the power stations
    "world": DEFAULTS["grid intensity"],
    "United States": Assumption("grid intensity", 384.0, "g CO2e/kWh", EMBER, 2024),
}
DEVICES = {  # W at full power
    "processor core": Assumption("power", 12.0, "W", CORE, 2021),
    "T4": Assumption("power", 70.0, "W", "NVIDIA, T4 data sheet", 2019),
    "A100 SXM": Assumption("power", 400.0, "W", "NVIDIA, A100 data sheet", 2020),
    "H100 SXM": Assumption("power", 700.0, "W", "NVIDIA, H100 data sheet", 2022),
}


@dataclass(frozen=True)
class Footprint:
    """What a run used.

    device_joules  of the devices alone; `kwh` is at the building's socket, with the PUE
    further        assumptions on which the joules rest, if they were not measured
    """

    device_joules: float
    seconds: float
    source: str
    pue: Assumption
    intensity: Assumption
    further: tuple[Assumption, ...] = ()

    @property
    def kwh(self) -> float:
        return self.device_joules * self.pue.value / JOULES_PER_KWH

    @property
    def co2_grams(self) -> float:
        return self.kwh * self.intensity.value

    def cost(self, price_per_kwh: float) -> float:
        """In the currency of the price. Raises ValueError for a negative price."""
        return self.kwh * _at_least(price_per_kwh, "price_per_kwh", 0)

    def __str__(self) -> str:
        rows = [*self.further, self.pue, self.intensity]
        lines = [f"{self.kwh:.3g} kWh, {self.co2_grams:.3g} g CO2e in {self.seconds:.4g} s ({self.source})"]
        return "\n".join([*lines, "rests on:", *(f"  {row}" for row in rows)])


def footprint(
    joules: float,
    seconds: float,
    source: str,
    *,
    pue: float | None = None,
    grams_per_kwh: float | None = None,
    further: tuple[Assumption, ...] = (),
) -> Footprint:
    """What follows from measured joules. pue, grams_per_kwh: your own; default: those of DEFAULTS.

    Raises ValueError for a negative number, or a PUE below 1: a building uses at least what its machines use.
    """
    # Printed with the result, so a default is never hidden.
    rows = [DEFAULTS["PUE"], DEFAULTS["grid intensity"]]
    if pue is not None:
        rows[0] = Assumption("PUE", _at_least(pue, "pue", 1), "", "given by you")
    if grams_per_kwh is not None:
        value = _at_least(grams_per_kwh, "grams_per_kwh", 0)
        rows[1] = Assumption("grid intensity", value, "g CO2e/kWh", "given by you")
    _at_least(joules, "joules", 0)
    _at_least(seconds, "seconds", 0)
    return Footprint(joules, seconds, source, *rows, further)


def estimate_energy(
    seconds: float,
    watts: float | Assumption,
    *,
    utilisation: float = 1.0,
    devices: int = 1,
    pue: float | None = None,
    grams_per_kwh: float | None = None,
) -> Footprint:
    """What a run uses if `devices` draw `utilisation` of `watts` throughout; only the time is measured.

    watts  a number, or a row of DEVICES, which brings its source

    Raises ValueError for a negative number, a utilisation outside 0 to 1, fewer than one device, a PUE below 1.
    """
    power = watts if isinstance(watts, Assumption) else Assumption("power", watts, "W", "given by you")
    _at_least(power.value, "watts", 0)
    if not 0 <= utilisation <= 1:
        raise ValueError(f"utilisation must be a share from 0 to 1; got {utilisation}. 80 % is 0.8.")
    further = (
        power,
        Assumption("utilisation", utilisation, "", "given by you" if utilisation != 1 else "full power"),
        Assumption("devices", _at_least(devices, "devices", 1), "", "given by you"),
    )
    joules = _at_least(seconds, "seconds", 0) * power.value * utilisation * devices
    return footprint(joules, seconds, "estimated", pue=pue, grams_per_kwh=grams_per_kwh, further=further)


def _at_least(value: float, name: str, least: float) -> float:
    if not least <= value < float("inf"):  # NaN too
        raise ValueError(f"{name} must be a finite number of {least} or more; got {value}.")
    return value
