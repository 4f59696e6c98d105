"""What a machine lacks is named before anything is installed."""

import os
import platform
import shutil

import pytest

from course_setup import checks
from course_setup.common import GB, Missing


def free(monkeypatch, count):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(count, 0, count))


def system(monkeypatch, name, machine, *, macos="", libc=("", "")):
    """From now on this is another system."""
    monkeypatch.setattr(checks.sys, "platform", name)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), machine))
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)


@pytest.mark.parametrize(
    ("name", "machine", "facts", "words"),
    [
        ("darwin", "x86_64", {"macos": "15.1"}, "no build for Intel Macs after version 2.2"),
        ("darwin", "arm64", {"macos": "13.6.1"}, "needs macOS 14 or later.*this is 13.6.1"),
        ("win32", "ARM64", {}, "no build for Windows on ARM"),
        ("linux", "x86_64", {"libc": ("glibc", "2.27")}, "need glibc 2.28.*this system has glibc 2.27"),
        ("linux", "x86_64", {"libc": ("", "")}, "another C library"),
    ],
)
def test_a_system_without_wheels_is_told_so(monkeypatch, name, machine, facts, words):
    """pip would say that it found no version of torch, which helps nobody."""
    system(monkeypatch, name, machine, **facts)
    with pytest.raises(Missing, match=words):
        checks.check_system()


@pytest.mark.parametrize(
    ("name", "machine", "facts"),
    [
        ("linux", "x86_64", {"libc": ("glibc", "2.28")}),
        ("linux", "aarch64", {"libc": ("glibc", "2.41")}),
        ("darwin", "arm64", {"macos": "14.0"}),
        ("darwin", "arm64", {"macos": "26.1"}),
        ("win32", "AMD64", {}),
    ],
)
def test_the_systems_of_the_course(monkeypatch, name, machine, facts):
    system(monkeypatch, name, machine, **facts)
    checks.check_system()


def test_a_32_bit_python_is_told_so(monkeypatch):
    monkeypatch.setattr(checks.sys, "maxsize", 2**31 - 1)
    with pytest.raises(Missing, match="32-bit"):
        checks.check_system()


def test_a_missing_venv_module_is_named(monkeypatch):
    monkeypatch.setattr(
        checks.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object()
    )
    with pytest.raises(Missing, match=r"(?s)apt install python3-venv.*environment\.yml"):
        checks.check_venv_module()


@pytest.mark.parametrize(("with_cuda", "enough"), [(False, 3 * GB), (True, 9 * GB)])
def test_the_disk_has_to_hold_the_build_that_is_taken(tmp_path, monkeypatch, with_cuda, enough):
    free(monkeypatch, enough)
    checks.check_disk(str(tmp_path / ".venv"), str(tmp_path), with_cuda)
    free(monkeypatch, enough - GB // 2)
    with pytest.raises(Missing, match=rf"about {enough // GB} GB.*are free on this disk"):
        checks.check_disk(str(tmp_path / ".venv"), str(tmp_path), with_cuda)


def test_what_is_there_counts(tmp_path, monkeypatch):
    """An interrupted installation on a small disk can go on: only what is still to come has to fit."""
    folder = tmp_path / ".venv"
    folder.mkdir()
    with open(folder / "big", "wb") as file:
        file.truncate(2 * GB)  # a hole: takes no disk
    assert os.path.getsize(folder / "big") == 2 * GB
    free(monkeypatch, GB)
    checks.check_disk(str(folder), str(tmp_path), with_cuda=False)
    free(monkeypatch, GB // 10)
    with pytest.raises(Missing, match=r"0\.1 GB are free"):
        checks.check_disk(str(folder), str(tmp_path), with_cuda=False)
