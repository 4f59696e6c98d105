"""Units by hand, and assumptions that are always shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.throughput.energy import DEFAULTS, DEVICES, GRIDS, estimate_energy, footprint

FINITE = st.floats(0, 1e9)


def test_an_hour_of_a_kilowatt_is_a_kilowatt_hour():
    run = estimate_energy(3600, 1000, pue=1, grams_per_kwh=400)
    assert (run.kwh, run.co2_grams, run.cost(0.25)) == (1, 400, 0.25)


def test_a_worked_example():
    """Two T4 for ten hours at 80 %: 2 x 70 W x 0.8 x 10 h = 1.12 kWh, times the PUE."""
    run = estimate_energy(36_000, DEVICES["T4"], utilisation=0.8, devices=2, pue=1.5, grams_per_kwh=100)
    assert run.kwh == pytest.approx(1.68) and run.co2_grams == pytest.approx(168)


@given(FINITE, FINITE, st.floats(1, 3), st.floats(0, 1000))
def test_measured_and_estimated_agree(seconds, watts, pue, grams):
    """The joules of a steady power, measured, are the estimate at full power."""
    guess = estimate_energy(seconds, watts, pue=pue, grams_per_kwh=grams)
    meant = footprint(seconds * watts, seconds, "measured", pue=pue, grams_per_kwh=grams)
    assert guess.kwh == pytest.approx(meant.kwh) and guess.co2_grams == pytest.approx(meant.co2_grams)


def test_what_it_prints_holds_every_assumption_with_its_source():
    text = str(estimate_energy(60, DEVICES["T4"], utilisation=0.5))
    for words in (
        "(estimated)",
        "rests on:",
        "power 70 W (NVIDIA, T4 data sheet, 2019)",
        "utilisation 0.5 (given by you)",
        "PUE 1.58 (Uptime Institute, Global Data Center Survey: average, 2023)",
        "grid intensity 473 g CO2e/kWh (Ember, Global Electricity Review 2025: world average, 2024)",
    ):
        assert words in text
    assert "PUE 1.1 (given by you)" in str(footprint(1, 1, "measured", pue=1.1))


def test_every_row_of_the_tables_has_a_source_and_a_year():
    for row in (*DEFAULTS.values(), *GRIDS.values(), *DEVICES.values()):
        assert row.source and 2000 < row.year <= 2026 and row.value > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"utilisation": 80}, "utilisation must be a share from 0 to 1; got 80"),
        ({"watts": -1}, "watts must be a finite number of 0 or more"),
        ({"seconds": float("nan")}, "seconds must be a finite"),
        ({"seconds": float("inf")}, "seconds must be a finite"),
        ({"pue": 0.9}, "pue must be a finite number of 1 or more; got 0.9"),
        ({"grams_per_kwh": -5}, "grams_per_kwh must be"),
        ({"devices": 0}, "devices must be a finite number of 1 or more"),
    ],
)
def test_impossible_numbers_get_a_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        estimate_energy(**{"seconds": 1, "watts": 1, **arguments})


def test_a_negative_price_is_refused():
    with pytest.raises(ValueError, match="price_per_kwh"):
        estimate_energy(1, 1).cost(-0.1)
