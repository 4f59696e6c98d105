"""What the lectures need is what pyproject.toml installs; releases and pairs that do not fit are told in words."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from classroom.machine import host as machine
from classroom.machine import packages
from classroom.machine.packages import Package

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OLD = Package("transformers", "the language model", True, "4.40.0", "5.0", "5.23.0")


EXTRAS = PROJECT["optional-dependencies"]
ASKED = [text for text in EXTRAS["torch"] + EXTRAS["colab"] if not text.startswith("coursekit[")]


def test_what_is_needed_is_what_colab_installs():
    """The extra `colab`, and `torch` within it: drop one here, and Ready is said too early."""
    assert set(packages.NEEDED) == {Requirement(text).name for text in ASKED}


def test_bounds_are_those_of_pyproject_and_of_the_lock(monkeypatch):
    monkeypatch.setattr(packages.metadata, "requires", lambda name: ASKED)
    found = {package.name: package for package in packages.read_packages()}
    for text in ASKED:
        asked = Requirement(text)
        assert str(asked.specifier) == f">={found[asked.name].oldest}"
        assert found[asked.name].tested == packages.lock()[asked.name.replace("_", "-").lower()]


@pytest.mark.parametrize(
    ("installed", "too_old"), [("4.57.6", True), ("5.0", False), ("5.23.0+local", False), ("my-build", False)]
)
def test_a_release_is_too_old_below_the_bound(installed, too_old):
    assert replace(OLD, installed=installed).too_old is too_old


def test_other_releases_than_the_tested_ones_are_one_remark():
    cpu_build = Package("torch", "tensors", True, "2.13.0+cpu", "2.6", "2.13.0")
    newer = Package("peft", "adapters", True, "0.30", "0.15", "0.21.2")
    assert packages.untested([cpu_build]) is None
    assert "peft 0.30 (tested: 0.21.2)." in packages.untested([cpu_build, newer])


# of the list that Google publishes (github.com/googlecolab/backend-info), 2026-02
COLAB = {"accelerate": "1.12.0", "anywidget": "0.9.21", "click": "8.3.1", "ipykernel": "6.17.1", "ipywidgets": "7.7.1",
         "matplotlib": "3.10.0", "ml_dtypes": "0.5.4", "numpy": "2.0.2", "peft": "0.18.1", "psutil": "5.9.5",
         "rich": "13.9.4", "safetensors": "0.7.0", "tokenizers": "0.22.2", "torch": "2.10.0+cu128", "tqdm": "4.67.3",
         "transformers": "5.0.0"}  # fmt: skip


@pytest.mark.parametrize("text", [text for text in ASKED if "bitsandbytes" not in text])
def test_the_bounds_accept_what_colab_has(text):
    """pip would replace Colab's own, and its kernel, which Colab does not survive without a restart."""
    asked = Requirement(text)
    assert asked.specifier.contains(COLAB[asked.name])


def test_peft_that_refuses_colabs_torchao_is_told_the_way_out():
    why = "ImportError: Found an incompatible version of torchao. Found version 0.10.0, but only above 0.16.0"
    sentence = packages.broken(Package("peft", "adapters", True, "0.19"), why)
    assert "uninstall -y torchao" in sentence and "force-reinstall" not in sentence


def test_the_remedy_on_colab_is_a_cell(monkeypatch):
    missing = Package("bitsandbytes", "4-bit weights", True, None, "0.46", "0.50.2")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert packages.missing(missing).endswith('Needed: `%pip install "bitsandbytes>=0.46"`.')
    assert "restart the session" in packages.outdated(OLD)


def test_the_remedy_elsewhere_names_this_very_python(monkeypatch):
    monkeypatch.setattr(packages.sys, "executable", "C:\\My Course\\python.exe")
    assert '`"C:\\My Course\\python.exe" -m pip install transformers==5.23.0`' in packages.outdated(OLD)


@pytest.mark.parametrize(("translated", "words"), [(False, "since 2.2.2"), (True, "build for Apple silicon")])
def test_on_an_intel_mac_there_is_no_torch_to_install(monkeypatch, translated, words):
    monkeypatch.setattr(machine, "is_intel_mac", lambda: True)
    monkeypatch.setattr(machine, "is_translated", lambda: translated)
    assert words in packages.missing(Package("torch", "tensors", True, None))
    assert "-m pip install peft" in packages.missing(Package("peft", "adapters", True, None))


def test_a_pair_that_does_not_fit_is_found_without_importing_it(monkeypatch):
    versions = {"torchvision": "0.21.0", "torch": "2.13.0", "peft": "0.21"}
    asks = {"torchvision": ["torch==2.6.0"], "peft": ["torch>=1.13", 'black; extra == "quality"']}
    monkeypatch.setattr(machine, "version", versions.get)
    monkeypatch.setattr(packages.metadata, "requires", lambda name: asks.get(name, ["not a requirement!"]))
    ((name, sentence),) = packages.misfits()
    assert name == "torchvision"
    assert "`torchvision` 0.21.0 asks for torch ==2.6.0, and torch 2.13.0 is installed." in sentence
    assert "pip uninstall -y torchvision" in sentence


def test_this_environment_fits():
    assert packages.misfits() == []
