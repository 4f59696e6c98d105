"""The canary keeps to itself: its own environment, never CUDA by accident, a table of what is newer."""

import pytest

from course_setup import newest, tasks, torch_build
from course_setup.common import Missing
from course_setup.environment import Environment


@pytest.fixture
def canary(root, calls, monkeypatch):
    """The canary's environment on a Linux machine without a GPU, with what would be installed in it."""
    environment = Environment(str(root), ".venv-newest")
    monkeypatch.setattr(torch_build.sys, "platform", "linux")
    monkeypatch.setattr(torch_build, "nvidia_is_here", lambda: False)
    monkeypatch.setattr(newest.env, "make_anew", lambda environment: (root / ".venv-newest").mkdir())
    monkeypatch.setattr(newest.checks, "check_system", lambda: None)
    monkeypatch.setattr(newest, "versions", lambda environment: {"torch": "9.9.9", "numpy": "99.0"})
    return environment


def test_it_installs_without_the_lock_and_holds_torch(canary, calls, root, capsys):
    assert tasks.main(["test", "--newest"]) == 0
    (packages,) = calls.containing("--upgrade", "-e")
    assert not any(word.endswith(("constraints.txt", "lab.txt")) for word in packages)
    assert packages[packages.index("-c") + 1] == canary.path("held.txt")
    assert (root / ".venv-newest" / "held.txt").read_text(encoding="utf-8") == "torch==9.9.9\n"
    assert not (root / ".venv").exists()


def test_pypis_torch_is_never_taken_by_accident(canary, calls):
    """On Linux an open range of torch pulls several GB of CUDA libraries."""
    calls.fails = lambda command: any(word.startswith("torch>=") for word in command)
    assert tasks.main(["test", "--newest"]) == 2
    asked = [command for command in calls if any(word.startswith("torch>=") for word in command)]
    assert len(asked) == 2 and all("--no-index" in command or "--index-url" in command for command in asked)


def test_cuda_is_taken_where_it_is_asked_for(canary, calls):
    newest.install_torch(canary, "cuda")
    assert len(calls) == 1 and "--index-url" not in calls[0]


def test_failing_tests_are_status_1_and_the_table_comes_all_the_same(canary, calls, capsys):
    calls.fails = lambda command: "pytest" in command
    assert tasks.main(["test", "--newest"]) == 1
    assert "numpy" in capsys.readouterr().out


def test_packages_that_do_not_fit_together_are_said_to(canary, calls, root):
    (root / ".venv-newest").mkdir()
    calls.fails = lambda command: "--upgrade" in command
    with pytest.raises(Missing, match="do not fit together"):
        newest.install(canary, "auto")


def test_its_part_of_the_tests_is_there(canary):
    from pathlib import Path

    tests = Path(__file__).parents[1]
    assert all((tests / part).is_dir() for part in newest.PARTS)


def test_the_table_tells_what_changed_what_came_and_what_went():
    text = newest.table({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "20", "d": "4", "pip": "1"})
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["b", "2", "20"],
        ["c", "3", "-"],
        ["d", "-", "4"],
    ]
    assert newest.table({"a": "1"}, {"a": "1"}) == "Nothing is newer than the lock."


def test_the_lock_is_read_with_pips_normal_names(root):
    pins = newest.pins(str(root))
    assert pins["torch"] and pins["huggingface-hub"] and len(pins) > 150
