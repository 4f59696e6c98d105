"""Counters that wrap, folders that cannot be read, and meters that are not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.throughput import energy_meter
from coursekit.throughput.energy_meter import Counter, EnergyMeter, rapl_counters


@given(st.integers(10, 1000), st.lists(st.integers(0, 9), max_size=200), st.integers(0, 2000))
def test_a_counter_adds_up_across_wraps(full, steps, start):
    """Whatever the range, as long as no step is larger: after `full` comes 0."""
    true = start
    counter = Counter(lambda: true % (full + 1), full)
    for step in steps:
        true += step
        assert counter.sample() == true - start


def test_a_counter_without_a_range_must_not_fall():
    values = iter([5, 7, 3])
    counter = Counter(lambda: next(values))
    assert counter.sample() == 2
    with pytest.raises(ValueError, match="the energy counter fell from 7 to 3"):
        counter.sample()


def domain(root, folder, name, microjoules, full=1000):
    place = root / folder
    place.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", full)):
        (place / file).write_text(f"{value}\n")
    return place


def test_packages_count_their_parts_and_psys_do_not(tmp_path):
    """Else the cores of a package would be counted twice."""
    for folder, name in (
        ("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys"),
        ("intel-rapl:0:0", "core"), ("intel-rapl-mmio:0", "package-0"),
    ):  # fmt: skip
        domain(tmp_path, folder, name, 100)
    assert len(rapl_counters(tmp_path)) == 2
    assert rapl_counters(tmp_path / "nowhere") == []


def test_what_cannot_be_read_is_left_out(tmp_path):
    domain(tmp_path, "intel-rapl:0", "package-0", "secret")
    (domain(tmp_path, "intel-rapl:1", "package-1", 1) / "energy_uj").unlink()
    assert rapl_counters(tmp_path) == []


def test_the_meter_adds_gpu_and_processor_across_a_wrap(tmp_path):
    """RAPL from 900 over the wrap at 1000 to 99 µJ: 200 µJ; the GPU from 10 to 12.5 J."""
    place, gpu, times = (
        domain(tmp_path, "intel-rapl:0", "package-0", 900),
        iter([10.0, 12.5]),
        iter([1.0, 4.0]),
    )
    with EnergyMeter(tmp_path, lambda: next(gpu), lambda: next(times)) as meter:
        (place / "energy_uj").write_text("99")
    assert meter.joules == pytest.approx(2.5 + 200e-6)
    assert meter.seconds == 3 and meter.source == "measured: GPU (NVML), processor (RAPL)"


def test_without_a_meter_there_is_no_number(tmp_path):
    with EnergyMeter(tmp_path, lambda: None) as meter:
        pass
    assert meter.joules is None and meter.source == "" and meter.seconds >= 0


def test_a_card_that_hides_its_energy_is_no_meter(monkeypatch):
    """None of one card would make the sum of all a lie."""
    readings = [energy_meter.gpu.Reading("Card", 1, 2, None, None, None, joules) for joules in (3.0, None)]
    monkeypatch.setattr(energy_meter.gpu, "read", lambda: readings)
    assert energy_meter.gpu_joules() is None
    monkeypatch.setattr(energy_meter.gpu, "read", lambda: readings[:1])
    assert energy_meter.gpu_joules() == 3.0
