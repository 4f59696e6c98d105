"""The doctor says Ready only where all that the lectures need is there and works; it never fails and never waits."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
import torch

from classroom.machine import doctor as module
from classroom.machine import gpu, packages, trial
from classroom.machine import host as machine
from classroom.machine.doctor import LEVELS, TOOLS, as_dict, doctor
from coursekit import processor


@pytest.fixture(scope="module")
def report():
    return doctor(network=False)


def look():
    """A report without the trial, which takes seconds."""
    return doctor(network=False, try_packages=False)


def without(monkeypatch, *names):
    real = machine.version
    monkeypatch.setattr(machine, "version", lambda name: None if name in names else real(name))


def test_it_reports_this_machine(report):
    text = str(report)
    assert f"{report.machine.cores} core" in text
    assert f"torch {torch.__version__}" in text
    assert "GiB" in text
    assert report.machine.ram_total_bytes <= psutil.virtual_memory().total
    assert report.machine.ram_free_bytes <= report.machine.ram_total_bytes
    assert report.ready, report.problems


def test_text_and_html_for_a_notebook(report):
    bundle = report._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert 'role="status" aria-label="Ready: this machine runs the course"' in bundle["text/html"]


def test_its_words_can_be_printed_by_an_old_windows_terminal(report):
    """All but the glyph before the heading, which the command line replaces."""
    bad = replace(report, problems=("`torch` is not installed.",), gpu=gpu.Gpu("Apple M2", kind="mps"))
    for shown in (report, bad):
        str(shown)[1:].encode("cp1252")


def test_programs_get_the_same_as_json(report):
    told = json.loads(json.dumps(as_dict(report)))
    assert told["ready"] is True
    assert told["machine"]["cores"] == report.machine.cores
    assert {p["name"]: p["installed"] for p in told["packages"]}["torch"] == torch.__version__
    assert told["instructions"]["level"] == processor.level()
    assert told["tools"].keys() == {name for name, _ in TOOLS}


def test_fast_formats_are_measured_on_the_spot(report):
    """Rates between a slow emulation and the fastest card of today: not zero, not a clock that did not tick."""
    assert report.speeds[0].name == "FP32"
    assert {"BF16", "FP16"} <= {found.name for found in report.speeds}
    assert all(0.001 < found.gflops < 5e6 for found in report.speeds if found.seconds)


# ---------------------------------------------------------------- ready or not


def test_without_torch_it_says_so_and_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch now raises ImportError
    without(monkeypatch, "torch")
    report = look()
    assert not report.ready
    assert report.speeds == ()
    assert "`torch` is not installed (tensors and training). Needed: `" in str(report)
    assert report.card().kind == "fail"


@pytest.mark.parametrize("name", packages.NEEDED)
def test_it_is_not_ready_where_a_package_of_the_lectures_is_missing(monkeypatch, report, name):
    without(monkeypatch, name)
    problems = tuple(module.find_problems(packages.read_packages(), None, {}))
    assert len(problems) == 1 and not replace(report, problems=problems).ready
    assert f"`{name}` is not installed ({packages.NEEDED[name]})" in problems[0]


def test_it_is_not_ready_where_a_package_is_too_old(monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: "0.1" if name == "peft" else "99")
    (problem,) = module.find_problems(packages.read_packages(), None, {})
    assert problem.startswith("`peft` 0.1 is too old: the course needs 0.15 or later")


def test_it_is_not_ready_where_a_package_does_not_work(report):
    problems = module.find_problems(report.packages, None, {"bitsandbytes": "OSError: no libcudart"})
    assert [problem.split(".")[0] for problem in problems] == ["`bitsandbytes` 0"]
    assert "is installed but cannot be used: OSError: no libcudart." in problems[0]
    assert not replace(report, problems=tuple(problems)).ready


def test_a_torch_that_cannot_be_loaded_is_told_from_one_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert any("`torch`" in problem and "cannot be used" in problem for problem in look().problems)


def test_tools_of_authors_are_not_a_problem(monkeypatch):
    """A student who has no jupytext, nbgrader, node or browser lacks nothing."""
    without(monkeypatch, *packages.FOR_OTHERS)
    monkeypatch.setattr(machine, "find_tool", lambda name: None)
    report = look()
    assert report.ready
    row = next(line for line in str(report).splitlines() if line.startswith("Not installed, not needed"))
    for name, use in (*packages.FOR_OTHERS.items(), *TOOLS):
        assert f"{name} ({use})" in row


def test_a_broken_neighbour_is_blamed_for_what_imports_it(monkeypatch, report):
    """torchvision of another torch: transformers and peft fail with it, and to install them again would not help."""
    why = "RuntimeError: operator torchvision::nms does not exist"
    tried = {"torchvision": why, "transformers": why, "peft": why}
    (problem,) = module.find_problems(report.packages, None, tried)
    assert problem.startswith("`torchvision` None cannot be loaded beside torch 2")
    assert "uninstall -y torchvision" in problem
    assert module.find_problems(report.packages, None, {"torchvision": why, "transformers": trial.OK}) == []


def test_a_pair_that_does_not_fit_is_a_remark(monkeypatch, report):
    monkeypatch.setattr(packages, "misfits", lambda: [("torchvision", "It asks for another torch.")])
    look_at = (report.machine, report.packages, None)
    assert "It asks for another torch." in module.find_remarks(*look_at, {}, report.gpu)
    blamed = {"torchvision": "Error", "transformers": "Error"}
    assert "It asks for another torch." not in module.find_remarks(*look_at, blamed, report.gpu)


# ---------------------------------------------------------------- what the machine has


def test_little_memory_is_a_remark(report):
    poor = machine.Machine("Linux", "3.11", 2, 4 * 2**30, 2**29, 2**40)
    remarks = module.find_remarks(poor, report.packages, None, {}, report.gpu)
    assert "Only 0.5 GiB of memory are free: close other programs." in remarks


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (gpu.Gpu("Some Card", 24 * 2**30, "8.9"), "Some Card, 24.0 GiB, compute capability 8.9"),
        (gpu.Gpu("GPU of the Apple M2", kind="mps"), "Apple M2 (mps): the course does not use it"),
        (gpu.Gpu("Arc", kind="xpu"), "Arc (Intel, xpu): the course does not use it"),
        (gpu.Gpu("MI300X", 192 * 2**30, "9.4", kind="rocm"), "MI300X, 192.0 GiB, AMD through ROCm"),
    ],
)
def test_a_gpu_is_named_with_what_the_course_does_with_it(report, card, words):
    assert words in str(replace(report, gpu=card))


def test_every_level_of_instructions_has_a_name_and_a_meaning():
    for level, name in LEVELS.items():
        units = level.endswith("bf16")
        found = module.Instructions(level, units, "AVX2", ("ONEDNN_MAX_CPU_ISA=AVX2",))
        assert found.words() == f"{name} (limited by ONEDNN_MAX_CPU_ISA=AVX2)"
        assert ("rounds" in found.meaning()) is not units


def test_a_device_that_does_not_compute_leaves_no_speeds(monkeypatch):
    def refuse(device):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(module.speed, "measure_speeds", refuse)
    assert module._speeds(gpu.Gpu("Old Card")) == ()


def test_offline_is_told(report, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert machine.offline_variables() == ("HF_HUB_OFFLINE=1",)
    text = str(replace(report, offline_variables=("HF_HUB_OFFLINE=1",)))
    assert "model downloads are off (HF_HUB_OFFLINE=1); the course needs none" in text


def test_the_trial_is_of_what_is_installed(monkeypatch):
    without(monkeypatch, "torchvision", "peft")
    assert set(module._to_try()) == set(packages.TRIED) - {"torchvision", "torchaudio", "peft"}
    assert trial.Trials((), None).results() == {}


def test_importing_the_classroom_is_light():
    """The machinery of checks, a prediction and the doctor load neither torch nor numpy until they need them."""
    code = (
        "import sys, classroom.machine.doctor, classroom.notebook.predict, classroom.notebook.show, "
        "classroom.checking.exercise; "
        "print([m for m in ('torch', 'numpy', 'IPython', 'pygments', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert result.stdout.strip() == "[]", result.stderr
