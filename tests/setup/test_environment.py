"""The environment: made once, whole again after any interruption, at home wherever the folder is moved."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course_setup import common, torch_build
from course_setup import environment as env
from course_setup.common import Missing

TORCH = "torch-{}.dist-info"


@pytest.fixture
def plain(monkeypatch):
    """A machine with room on its disk, on which torch is nobody's concern."""
    monkeypatch.setattr(env.checks, "check_disk", lambda *_, **__: None)
    monkeypatch.setattr(torch_build, "install", lambda environment, build: None)


@pytest.fixture
def ready(plain, calls, environment):
    """An environment with what `make lab` needs; `calls` is empty again."""
    env.set_up(environment, env.LAB)
    calls.clear()
    return environment


def test_the_second_call_runs_no_program(ready, calls):
    env.set_up(ready, env.LAB)
    assert calls == []


def test_the_packages_come_from_the_lock_with_their_hashes(plain, calls, environment):
    env.set_up(environment, env.PUBLISH)
    (locked,) = calls.containing("--require-hashes", "--no-deps")
    files = [Path(word).name for word in locked if word.endswith(".txt")]
    assert files == ["lab.txt", "publish.txt"]
    (project,) = calls.containing("-e")
    assert {"--no-deps", "--no-build-isolation"} <= set(project)


@pytest.mark.parametrize("name", ["lock/lab.txt", "pyproject.toml"])
def test_a_changed_lock_or_project_installs_again(ready, calls, name):
    with open(os.path.join(ready.root, name), "a") as file:
        file.write("# changed\n")
    env.set_up(ready, env.LAB)
    assert calls.containing("--require-hashes")


def test_an_installation_for_the_tests_serves_the_lab_too(plain, calls, environment):
    env.set_up(environment, env.TEST)
    assert env.installed(environment, env.LAB) and env.installed(environment, env.PUBLISH)
    assert not env.installed(environment, ("node",))


def test_no_network_is_explained(plain, calls, environment):
    calls.fails = lambda command: "install" in command
    with pytest.raises(Missing, match="needs a network once"):
        env.set_up(environment, env.LAB)
    assert not env.installed(environment, env.LAB)


def test_a_system_that_the_lock_does_not_fit_gets_the_same_versions(plain, calls, environment, capsys):
    """Another file of the same version has another hash: a mirror's own build, for instance."""
    calls.fails = lambda command: "--require-hashes" in command
    env.set_up(environment, env.LAB)
    assert calls.containing("-c", os.path.join(environment.root, "constraints.txt"))
    assert "without the check of hashes" in capsys.readouterr().out


# ---------------------------------------------------------------- interruptions


def test_an_environment_whose_making_was_interrupted_is_made_anew(plain, calls, environment):
    """Its python is there, its pip is not: what `python -m venv` leaves when it is stopped in ensurepip."""
    calls.fails = lambda command: "--version" in command
    with pytest.raises(Missing, match="could not be made"):
        env.set_up(environment, env.LAB)
    assert os.path.exists(environment.python)
    calls.fails = lambda command: False
    calls.clear()
    env.set_up(environment, env.LAB)
    assert calls.containing("venv", "--clear") and env.installed(environment, env.LAB)


@pytest.mark.parametrize("text", ["", "3.1", None])
def test_a_note_that_is_cut_off_or_gone_makes_it_anew(ready, calls, text):
    if text is None:
        os.remove(ready.path("made"))
    else:
        Path(ready.path("made")).write_text(text, encoding="utf-8")
    env.set_up(ready, env.LAB)
    assert calls.containing("venv", "--clear")


def test_a_python_that_is_gone_makes_it_anew(ready, calls):
    os.remove(ready.python)
    env.set_up(ready, env.LAB)
    assert calls.containing("venv", "--clear")


@pytest.mark.parametrize("text", ["", "half a dig"])
def test_a_half_written_stamp_installs_again(ready, calls, text):
    Path(env.stamp(ready, "lab")).write_text(text, encoding="utf-8")
    env.set_up(ready, env.LAB)
    assert calls.containing("--require-hashes") and not calls.containing("--clear")
    assert env.installed(ready, env.LAB)


def test_another_python_makes_it_anew(ready, calls, monkeypatch):
    monkeypatch.setattr(env.sys, "version_info", (3, 99, 0))
    env.set_up(ready, env.LAB)
    assert calls.containing("venv", "--clear") and calls.containing("--require-hashes")


@pytest.mark.parametrize("missing", ["METADATA", "INSTALLER", "RECORD"])
def test_a_package_that_was_cut_off_is_forgotten(environment, missing):
    """pip takes METADATA alone for an installed package and would never mend it."""
    site = site_packages(environment)
    for name in ("whole", "half"):
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        for part in ("METADATA", "INSTALLER", "RECORD"):
            (folder / part).touch()
    (site / "half-1.0.dist-info" / missing).unlink()
    (site / "~umpy").mkdir()
    env.remove_half_installed(environment)
    assert [path.name for path in site.iterdir()] == ["whole-1.0.dist-info"]


def test_each_installation_forgets_them_first(ready, calls):
    half = site_packages(ready) / "half-1.0.dist-info"
    half.mkdir()
    os.remove(env.stamp(ready, "lab"))
    env.set_up(ready, env.LAB)
    assert not half.exists() and calls.containing("--require-hashes")


def site_packages(environment):
    parts = ["Lib"] if os.name == "nt" else ["lib", "python3.11"]
    site = Path(environment.folder, *parts, "site-packages")
    site.mkdir(parents=True)
    return site


# ---------------------------------------------------------------- moved


def test_a_moved_folder_is_mended_without_a_network(ready, calls, root):
    """Scripts of the old place name it in their first line; the editable project points there too.

    Windows has the place inside its programs, where it cannot be changed: there the environment is made anew.
    """
    script, other = Path(ready.scripts, "coursekit"), Path(ready.scripts, "binary")
    script.write_bytes(b"#!" + os.fsencode(ready.python) + b"\nimport sys\n")
    other.write_bytes(b"\x7fELF" + os.fsencode(ready.folder))
    moved = env.Environment(str(shutil.move(root, root.parent / "moved")))
    env.set_up(moved, env.LAB)
    assert calls.containing("-e", moved.root) and env.installed(moved, env.LAB)
    assert bool(calls.containing("--clear")) == (os.name == "nt")
    if os.name != "nt":
        assert Path(moved.scripts, "coursekit").read_bytes().startswith(b"#!" + os.fsencode(moved.python))
        assert Path(moved.scripts, "binary").read_bytes() == b"\x7fELF" + os.fsencode(ready.folder)


# ---------------------------------------------------------------- common


@pytest.mark.timeout(120)
def test_a_long_installation_shows_that_it_lives(tmp_path, monkeypatch, capsys):
    """Where there is no terminal for pip's bars: a line every half minute, here every tenth of a second."""
    monkeypatch.setattr(common, "SECONDS_BETWEEN_LINES", 0.1)
    (tmp_path / "file").write_bytes(b"x" * 10**7)
    waiting = [sys.executable, "-c", "import sys; sys.stdin.readline()"]
    lines = []

    def say(text):
        lines.append(text)
        if len(lines) == 3:
            process.stdin.write(b"\n")
            process.stdin.close()

    real = subprocess.Popen

    def start(command, **options):
        nonlocal process
        process = real(waiting, stdin=subprocess.PIPE)
        return process

    process = None
    monkeypatch.setattr(common.subprocess, "Popen", start)
    monkeypatch.setattr(common, "say", say)
    assert common.call_with_progress(["pip"], str(tmp_path)) == 0
    assert len(lines) >= 3 and "still installing" in lines[0] and "0.01 GB are there" in lines[0]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "note"
    common.write(str(path), "old")
    with pytest.raises(UnicodeEncodeError):
        common.write(str(path), "new \ud800")
    assert common.read(str(path)) == "old"


def test_a_program_that_cannot_be_started_is_a_failure():
    assert common.call(["no-such-program-anywhere"], quiet=True) == 127
