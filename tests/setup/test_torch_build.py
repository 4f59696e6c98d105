"""The small CPU build where no NVIDIA GPU is; what is installed is never exchanged in silence."""

import os
import re

import pytest

from course_setup import torch_build
from course_setup.common import Missing


@pytest.fixture
def machine(monkeypatch):
    """machine("linux", nvidia=False) is this machine from now on."""

    def become(system, nvidia):
        monkeypatch.setattr(torch_build.sys, "platform", system)
        monkeypatch.setattr(torch_build, "nvidia_is_here", lambda: nvidia)

    return become


def put_torch(environment, version, *, cuda=False):
    site = os.path.join(
        environment.folder, *(["Lib"] if os.name == "nt" else ["lib", "python3.11"]), "site-packages"
    )
    for folder in [f"torch-{version}.dist-info", *(["nvidia_cublas-1.dist-info"] if cuda else [])]:
        os.makedirs(os.path.join(site, folder))
        open(os.path.join(site, folder, "RECORD"), "w").close()


def test_a_wheel_that_pip_already_knows_is_taken_first(machine, calls, environment):
    """A machine whose pip settings name a folder with the CPU build must not download another."""
    machine("linux", nvidia=False)
    torch_build.install(environment, "auto")
    (command,) = calls
    assert {"--no-deps", "--no-index", torch_build.pinned(environment.root)} <= set(command)


def test_no_gpu_takes_the_cpu_build_from_its_index_alone(machine, calls, environment):
    """An extra index would be asked for all packages, and mix two sources."""
    machine("linux", nvidia=False)
    calls.fails = lambda command: "--no-index" in command
    torch_build.install(environment, "auto")
    assert len(calls) == 2
    assert {"--index-url", torch_build.CPU_INDEX, "--no-deps"} <= set(calls[1])
    assert "--extra-index-url" not in calls[1]


def test_an_index_that_does_not_answer_is_named_and_pypi_asked(machine, calls, environment, capsys):
    machine("linux", nvidia=False)
    calls.fails = lambda command: "--no-index" in command or "--index-url" in command
    torch_build.install(environment, "auto")
    assert "did not answer" in capsys.readouterr().out
    assert "-c" in calls[-1] and "--no-deps" not in calls[-1]


@pytest.mark.parametrize(
    ("system", "nvidia", "build", "index"),
    [
        ("linux", True, "auto", False),
        ("linux", False, "cuda", False),
        ("linux", True, "cpu", True),
        ("darwin", False, "auto", False),
        ("win32", True, "auto", False),
    ],
)
def test_which_build(machine, calls, environment, system, nvidia, build, index):
    machine(system, nvidia=nvidia)
    calls.fails = lambda command: "--no-index" in command
    torch_build.install(environment, build)
    assert (torch_build.CPU_INDEX in calls[-1]) == index
    assert torch_build.pinned(environment.root) in calls[-1]


def test_torch_that_is_there_is_kept(machine, calls, environment):
    machine("linux", nvidia=False)
    version = torch_build.pinned(environment.root).partition("==")[2]
    put_torch(environment, f"{version}+cpu")
    torch_build.install(environment, "auto")
    assert calls == []


def test_another_version_is_replaced(machine, calls, environment):
    machine("linux", nvidia=False)
    put_torch(environment, "2.0.0+cpu")
    torch_build.install(environment, "auto")
    assert len(calls) == 1


@pytest.mark.parametrize(("there", "cuda", "wish"), [("2.13.0", True, "cpu"), ("2.13.0+cpu", False, "cuda")])
def test_a_wish_that_comes_too_late_says_what_to_do(machine, environment, there, cuda, wish):
    machine("linux", nvidia=False)
    put_torch(environment, there, cuda=cuda)
    with pytest.raises(Missing, match=rf"asked for the {wish.upper()} build.*delete the folder \.venv"):
        torch_build.check_wish(environment, wish)
    torch_build.check_wish(environment, "auto")
    torch_build.check_wish(environment, "cuda" if wish == "cpu" else "cpu")


@pytest.mark.parametrize(
    ("system", "nvidia", "build", "wanted"),
    [
        ("linux", True, "auto", True),
        ("linux", False, "auto", False),
        ("linux", False, "cuda", True),
        ("linux", True, "cpu", False),
        ("win32", True, "auto", False),
    ],
)
def test_room_for_cuda_is_asked_for_only_where_it_comes(machine, environment, system, nvidia, build, wanted):
    machine(system, nvidia=nvidia)
    assert torch_build.wants_cuda(environment, build) == wanted


def test_the_pin_is_one_version(environment):
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", torch_build.pinned(environment.root))
