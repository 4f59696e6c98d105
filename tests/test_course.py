"""course.py names what is missing, the remedy and what works without it, and does not install twice."""

import ast
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def course(tmp_path, monkeypatch):
    """course.py as a module that works in an empty folder."""
    spec = importlib.util.spec_from_file_location("course", ROOT / "course.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", "constraints.txt", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    return module


@pytest.fixture
def calls(course, monkeypatch):
    """The commands that course.py would run, made to succeed."""
    commands = []
    monkeypatch.setattr(
        course.subprocess, "call", lambda command, **_: commands.append([str(c) for c in command]) or 0
    )
    os.makedirs(course.VENV)
    return commands


def test_an_old_python_can_read_it():
    """Its first duty is to tell an old Python that it is too old."""
    ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 8), (3, 14)])
def test_the_wrong_python_is_named_with_one_that_fits(course, monkeypatch, version, capsys):
    monkeypatch.setattr(course.sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(course.shutil, "which", lambda name: "found" if name == "python3.12" else None)
    assert course.main(["lab"]) == 2
    message = capsys.readouterr().err
    assert f"this is Python {version[0]}.{version[1]}" in message and "python3.12 course.py lab" in message


def test_no_python_that_fits(course, monkeypatch):
    monkeypatch.setattr(course.sys, "version_info", (3, 9, 0, "final", 0))
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    with pytest.raises(course.Missing, match=r"Install Python 3\.11, 3\.12 or 3\.13"):
        course.check_python()


def test_a_missing_venv_module_is_named(course, monkeypatch, capsys):
    monkeypatch.setattr(
        course.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object()
    )
    assert course.main(["lab"]) == 2
    message = capsys.readouterr().err
    assert "apt install python3-venv" in message and "environment.yml" in message


def test_a_full_disk_is_named_before_anything_is_installed(course, monkeypatch, capsys):
    monkeypatch.setattr(
        course.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 2 * 10**8)
    )
    assert course.main(["lab"]) == 2
    assert "0.2 GB are free" in capsys.readouterr().err
    assert not os.path.exists(course.VENV)


def test_missing_tools_are_named_together(course, monkeypatch, capsys):
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    monkeypatch.delenv("CHROME_PATH", raising=False)
    assert course.main(["test"]) == 2
    message = capsys.readouterr().err
    assert (
        "nodejs.org" in message and "apt install chromium" in message and "--without browser,node" in message
    )


def test_what_is_left_out_is_deselected(course, calls, monkeypatch):
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    assert course.main(["test", "--without", "node,browser"]) == 0
    assert "not gpu and not node and not browser" in calls[-1]
    assert not any("npm" in command[0] for command in calls)


def test_the_second_call_installs_nothing(course, calls):
    course.set_up("lab")
    first = len(calls)
    course.set_up("lab")
    assert any("install" in command for command in calls[:first])
    assert len([command for command in calls[first:] if "install" in command]) == 0


def test_a_changed_lock_installs_again(course, calls):
    course.set_up("lab")
    calls.clear()
    with open(os.path.join(course.ROOT, "constraints.txt"), "a") as file:
        file.write("# changed\n")
    course.set_up("lab")
    assert any("constraints.txt" in command for command in calls)


def test_an_installation_for_the_tests_serves_the_lab_too(course, calls):
    course.set_up("test")
    assert course.installed("lab") and course.installed("lab,publish")
    assert not course.installed("lab,publish,test,more")


def test_no_network_is_explained(course, calls, monkeypatch, capsys):
    monkeypatch.setattr(course.subprocess, "call", lambda command, **_: 1 if "pip" in command else 0)
    assert course.main(["lab"]) == 2
    assert "needs a network once" in capsys.readouterr().err
    assert not course.installed("lab")


def test_the_cpu_build_is_offered_where_it_matters(course, monkeypatch, capsys):
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    monkeypatch.setattr(course.sys, "platform", "linux")
    course.warn_of_cuda(cpu=False)
    assert "course.py lab --cpu" in capsys.readouterr().out
    course.warn_of_cuda(cpu=True)
    assert capsys.readouterr().out == ""


def test_ctrl_c_is_kind(course, monkeypatch, capsys):
    def interrupted(options, rest):
        raise KeyboardInterrupt

    monkeypatch.setitem(course.TASKS, "lab", interrupted)
    assert course.main(["lab"]) == 130
    assert "to go on" in capsys.readouterr().err


def test_the_makefile_offers_every_task(course):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"course.py {task} " in makefile for task in set(course.TASKS) - {"setup"})
    assert sys.version_info >= course.OLDEST
