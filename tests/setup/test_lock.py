"""One lock: the layers with hashes, constraints.txt and pyproject.toml say the same."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_setup import environment as env
from course_setup import newest

ROOT = Path(__file__).parents[2]
LAYERS = (*env.TEST, "node")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TORCHS_OWN = {"triton"}  # with the CUDA build only, and outside of the lock as torch is
SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}


def entries(layer):
    """[(requirement, its lines)] of a layer."""
    text = (ROOT / "lock" / f"{layer}.txt").read_text(encoding="utf-8")
    found = re.findall(r"^(\w\S+==[^\\\n]+?)(?: \\)?\n((?: +--hash=\S+.*\n)*)", text, re.MULTILINE)
    return [(Requirement(line), hashes) for line, hashes in found]


def locked(layers=LAYERS):
    return [requirement for layer in layers for requirement, _ in entries(layer)]


def pin(requirement):
    return str(requirement.specifier).removeprefix("==")


def test_the_layers_and_the_constraints_have_the_same_versions():
    assert {r.name: pin(r) for r in locked()} | {"torch": newest.pins(ROOT)["torch"]} == newest.pins(ROOT)


def test_no_package_is_locked_twice():
    names = [requirement.name for requirement in locked()]
    assert len(names) == len(set(names)) and [canonicalize_name(name) for name in names] == names


@pytest.mark.parametrize("layer", LAYERS)
def test_every_package_has_hashes_and_no_index_is_named(layer):
    assert all("--hash=sha256:" in hashes for _, hashes in entries(layer))
    assert not re.search(
        r"https?:|--index|--find-links", (ROOT / "lock" / f"{layer}.txt").read_text(encoding="utf-8")
    )


def test_what_has_another_hash_in_each_build_is_outside():
    """torch, and the CUDA libraries of its CUDA build: pip would refuse the CPU build, or bring them to everybody."""
    names = {requirement.name for requirement in locked()}
    assert not names & {"torch", *TORCHS_OWN}
    assert not [name for name in names if re.match(r"cuda-|nvidia-(?!ml-py)", name)]


def asked_for(extra):
    """The requirements of an extra, and of the extras that it includes."""
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "coursekit":
            for included in sorted(requirement.extras):
                yield from asked_for(included)
        else:
            yield requirement


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_pins_what_its_extra_asks_for(layer):
    below = LAYERS[: LAYERS.index(layer) + 1]
    pins = {requirement.name: pin(requirement) for requirement in locked(below)} | {
        "torch": newest.pins(ROOT)["torch"]
    }
    for requirement in [*asked_for(layer), Requirement("setuptools>=77")]:
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_extra_is_locked():
    """`lab` includes `colab`, which includes `torch`; `all` is the layers but Node.js. Alone: no dependency."""
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {*LAYERS, "torch", "colab", "all"}
    assert "coursekit[colab]" in extras["lab"] and "coursekit[torch]" in extras["colab"]
    assert PROJECT["dependencies"] == []


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", ["3.11.2", "3.12.0", "3.13.0"])
def test_what_the_packages_ask_for_is_locked_on_every_system(system, python):
    """By the installed packages' own words, with each system's and Python's markers. Debian 12 has Python 3.11.2."""
    from importlib.metadata import PackageNotFoundError, requires

    here = {
        **default_environment(),
        "sys_platform": system,
        "platform_system": SYSTEMS[system],
        "os_name": "nt" if system == "win32" else "posix",
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "extra": "",
    }
    present = {r.name for r in locked() if r.marker is None or r.marker.evaluate(here)} | {"torch"}
    for name in present:
        try:
            wanted = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # for another system than this one
            continue
        for requirement in wanted:
            if requirement.marker is None or Marker(str(requirement.marker)).evaluate(here):
                needed = canonicalize_name(requirement.name)
                own = name == "torch" and re.match(r"triton|cuda-|nvidia-", needed)
                assert own or needed in present, f"{name} needs {needed}"
