"""A course in an empty folder, and the programs that its set-up would call, made to succeed."""

import os
import shutil
from pathlib import Path

import pytest

from course_setup import common, tasks
from course_setup import environment as env

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of a course with its lock and its project file, and nothing set up."""
    folder = tmp_path / "the course"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "package-lock.json"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "lock", folder / "lock")
    monkeypatch.setattr(tasks, "ROOT", str(folder))
    return folder


@pytest.fixture
def environment(root):
    return env.Environment(str(root))


class Calls(list):
    """The commands that were called, as lists of words; `fails` decides which end with status 1."""

    def __init__(self):
        super().__init__()
        self.fails = lambda command: False

    def containing(self, *words):
        return [command for command in self if all(word in command for word in words)]


@pytest.fixture
def calls(monkeypatch):
    """Programs are noted instead of called. `python -m venv` makes the one file that is looked for."""
    commands = Calls()

    class Process:
        def __init__(self, command, **options):
            command = [str(word) for word in command]
            commands.append(command)
            self.status = 1 if commands.fails(command) else 0
            if "venv" in command and self.status == 0:
                make_python(command[-1])

        def wait(self, timeout=None):
            return self.status

    monkeypatch.setattr(common.subprocess, "Popen", Process)
    return commands


def make_python(folder):
    python = Path(folder, "Scripts", "python.exe") if os.name == "nt" else Path(folder, "bin", "python")
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()
