"""The doctor names what is there and what is missing, never fails, and never waits for a network."""

import os
import subprocess
import sys

import psutil
import pytest
import torch

from coursekit.classroom import doctor as module
from coursekit.classroom import machine, speed
from coursekit.classroom.doctor import PACKAGES, TOOLS, doctor


@pytest.fixture(scope="module")
def report():
    return doctor(network=False)


def test_it_reports_this_machine(report):
    text = str(report)
    assert f"{report.machine.cores} core" in text
    assert f"torch {torch.__version__}" in text
    assert "GiB" in text
    assert report.machine.ram_total_bytes <= psutil.virtual_memory().total
    assert report.machine.ram_free_bytes <= report.machine.ram_total_bytes
    assert report.ready


def test_text_and_html_for_a_notebook(report):
    bundle = report._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert 'role="status" aria-label="Ready: this machine runs the course"' in bundle["text/html"]


def test_fast_formats_are_measured_on_the_spot(report):
    """Rates between a slow emulation and the fastest card of today: not zero, not a clock that did not tick."""
    assert report.speeds[0].name == "FP32"
    assert {"BF16", "FP16"} <= {found.name for found in report.speeds}
    assert all(0.01 < found.gflops < 5e6 for found in report.speeds if found.seconds)


def test_without_torch_it_says_so_and_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch now raises ImportError
    monkeypatch.setattr(machine, "version", lambda name: None if name == "torch" else "1.0")
    report = doctor(network=False)
    assert not report.ready
    assert report.speeds == ()
    assert "`torch` is not installed (tensors and training). Needed: run `python course.py setup`" in str(
        report
    )
    assert report.card().kind == "fail"


def test_a_torch_that_cannot_be_loaded_is_told_from_one_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert any("installed but cannot be loaded" in problem for problem in doctor(network=False).problems)


def test_each_missing_piece_is_named_with_what_it_disables_and_the_remedy(monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: "1.0" if name == "torch" else None)
    monkeypatch.setattr(machine, "find_tool", lambda name: None)
    text = str(doctor(network=False))
    for name, use, _ in PACKAGES[1:]:
        assert f"`{name}` is not installed ({use})" in text
    for name, disables, remedy in TOOLS:
        assert f"`{name}` was not found: {disables}. Remedy: {remedy}." in text


def test_little_memory_is_a_problem(report):
    poor = machine.Machine("Linux", "3.11", 2, 4 * 2**30, 2**29, 2**40)
    problems = module.find_problems(poor, report.versions, report.tools, None)
    assert "Only 0.5 GiB of memory are free: close other programs." in problems


def test_a_gpu_is_named_with_its_memory(report):
    from dataclasses import replace

    text = str(replace(report, gpu=speed.Gpu("Some Card", 24 * 2**30, "8.9")))
    assert "Some Card, 24.0 GiB, compute capability 8.9" in text


def test_offline_is_told(report, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert machine.offline_variables() == ("HF_HUB_OFFLINE=1",)
    from dataclasses import replace

    text = str(replace(report, offline_variables=("HF_HUB_OFFLINE=1",)))
    assert "model downloads are off (HF_HUB_OFFLINE=1); the course needs none" in text


def test_importing_the_classroom_is_light():
    """A check, a prediction and the doctor load neither torch nor numpy until they need them."""
    code = (
        "import sys, coursekit.classroom.doctor, coursekit.classroom.predict, coursekit.classroom.show, "
        "coursekit.classroom.checks.formats; "
        "print([m for m in ('torch', 'numpy', 'IPython', 'pygments', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.stdout.strip() == "[]", result.stderr
