"""What a machine lacks is named before anything is installed."""

import os
import platform
import shutil

import pytest

from course_setup import checks
from course_setup.common import GB, Missing


def free(monkeypatch, count):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(count, 0, count))


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [
        ("darwin", "x86_64", "no build for Intel Macs after version 2.2"),
        ("win32", "ARM64", "no build for Windows on ARM"),
    ],
)
def test_a_system_without_wheels_is_told_so(monkeypatch, system, machine, words):
    """pip would say that it found no version of torch, which helps nobody."""
    monkeypatch.setattr(checks.sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(Missing, match=words):
        checks.check_system()


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")],
)
def test_the_systems_of_the_course(monkeypatch, system, machine):
    monkeypatch.setattr(checks.sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
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
