"""What each word after course.py does, what it refuses, and what it says when something is missing."""

import os

import pytest

from classroom.cli import main as coursekit
from course_setup import environment as env
from course_setup import tasks, torch_build, work


@pytest.fixture
def started(root, monkeypatch):
    """The commands that a task starts; nothing is set up and no tool is looked for."""
    commands, set_ups = [], []
    monkeypatch.setattr(env, "set_up", lambda environment, layers, build: set_ups.append((layers, build)))
    monkeypatch.setattr(tasks, "TOOLS", {"node": lambda _: None, "browser": lambda _: None})
    monkeypatch.setattr(tasks.tools, "have_node", lambda _: None)
    monkeypatch.setattr(torch_build, "nvidia_is_here", lambda: False)
    monkeypatch.setattr(work, "trust", lambda *_: None)
    for name in ("call", "hand_over"):
        monkeypatch.setattr(tasks, name, lambda command, **_: commands.append(command) or 0)
    commands_and_set_ups = type("Started", (), {"commands": commands, "set_ups": set_ups})
    (root / "notebooks").mkdir()
    return commands_and_set_ups


def without_browser(monkeypatch):
    monkeypatch.setitem(tasks.TOOLS, "browser", lambda _: "no browser: install one")
    monkeypatch.setattr(tasks, "count_tests", lambda environment, markers: "201")


# ---------------------------------------------------------------- coursekit's commands


def test_every_command_of_coursekit_can_be_called():
    """README writes `python course.py plan ...`: no shell has coursekit on its PATH."""
    assert set(tasks.COURSEKIT) == set(coursekit.commands)


@pytest.mark.parametrize(
    ("words", "layers", "build", "handed"),
    [
        (["plan", "llama-3-8b", "--gpu", "24"], env.LAB, "auto", ["plan", "llama-3-8b", "--gpu", "24"]),
        (["check", "--cpu", "a b.ipynb"], env.PUBLISH, "cpu", ["check", "a b.ipynb"]),
        (["slides", "--need", "x"], env.PUBLISH, "auto", ["slides", "--need", "x"]),
        (["plan", "--help"], env.LAB, "auto", ["plan", "--help"]),
    ],
)
def test_its_words_are_handed_on_as_they_are(started, words, layers, build, handed):
    assert tasks.main(words) == 0
    assert started.set_ups == [(layers, build)]
    assert started.commands[0][1:] == ["-m", "coursekit.cli", *handed]


def test_slides_without_node_say_so_and_go_on(started, monkeypatch, capsys):
    monkeypatch.setattr(tasks.tools, "have_node", lambda _: "no Node.js: install it")
    tasks.main(["build"])
    assert "Slides cannot be built: no Node.js" in capsys.readouterr().out and started.commands


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["test", "--without", "foo"], "foo is not among node, browser"),
        (["test", "--need", "node,foo"], "foo is not among node, browser"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        ([], "required"),
        (["lab", "--cpu", "--cuda"], "not allowed with"),
    ],
)
def test_what_it_does_not_know_is_refused(started, words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        tasks.main(words)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert started.set_ups == []


def test_ctrl_c_is_kind(monkeypatch, capsys):
    def interrupted(options, rest):
        raise KeyboardInterrupt

    monkeypatch.setitem(tasks.TASKS, "lab", interrupted)
    assert tasks.main(["lab"]) == 130
    assert "to go on" in capsys.readouterr().err


# ---------------------------------------------------------------- lab


def test_lab_opens_the_students_copy_without_jupyters_news(started, root):
    (root / "notebooks" / "00_start.ipynb").write_text("{}", encoding="utf-8")
    assert tasks.main(["lab", "--no-browser", "--port=1"]) == 0
    (command,) = started.commands
    assert (root / "work" / "notebooks" / "00_start.ipynb").exists()
    assert "--LabApp.default_url=/lab/tree/work/notebooks/00_start.ipynb" in command
    assert "--LabApp.news_url=None" in command and command[-2:] == ["--no-browser", "--port=1"]


def test_jupyter_knows_the_options_that_it_is_given():
    """A renamed option would only be a warning in a log."""
    from jupyterlab.handlers.announcements import NeverCheckForUpdate
    from jupyterlab.labapp import LabApp

    assert {"default_url", "news_url", "check_for_updates_class", "app_settings_dir"} <= set(
        LabApp.class_trait_names()
    )
    assert f"{NeverCheckForUpdate.__module__.split('.')[0]}.{NeverCheckForUpdate.__name__}" in str(
        tasks.lab_options()
    )


# ---------------------------------------------------------------- test


def test_all_tests_run_where_all_is_there(started):
    assert tasks.main(["test", "-k", "formats"]) == 0
    (command,) = started.commands
    assert command[command.index("-m", 2) + 1] == "not gpu" and "--durations=20" in command
    assert command[-2:] == ["-k", "formats"] and started.set_ups == [(env.TEST, "auto")]


def test_what_could_not_be_had_is_the_last_line(started, monkeypatch, capsys):
    without_browser(monkeypatch)
    assert tasks.main(["test"]) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last.startswith("NOT RUN: 201 tests of widgets and slides in a browser (no browser): install one")
    assert "not gpu and not browser" in started.commands[0]


def test_failed_tests_stay_failed_where_something_is_missing(started, monkeypatch):
    without_browser(monkeypatch)
    monkeypatch.setattr(tasks, "call", lambda command, **_: 1)
    assert tasks.main(["test"]) == 1


def test_what_is_needed_and_missing_ends_it_before_the_tests(started, monkeypatch, capsys):
    without_browser(monkeypatch)
    assert tasks.main(["test", "--need", "node,browser"]) == 2
    assert "no browser: install one" in capsys.readouterr().err and started.commands == []


def test_what_is_left_out_on_purpose_is_not_fetched(started, monkeypatch, capsys):
    monkeypatch.setitem(tasks.TOOLS, "browser", lambda _: pytest.fail("it was looked for"))
    assert tasks.main(["test", "--without", "browser"]) == 0
    assert "not gpu and not browser" in started.commands[0] and "NOT RUN" not in capsys.readouterr().out


def test_gpu_tests_run_where_a_gpu_is(started, monkeypatch):
    monkeypatch.setattr(torch_build, "nvidia_is_here", lambda: True)
    tasks.main(["test"])
    assert [command[command.index("-m", 2) + 1] for command in started.commands] == ["not gpu", "gpu"]


def test_tests_are_counted_by_their_marks(tmp_path, monkeypatch):
    import sys

    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    node: x\n    browser: x\n", encoding="utf-8"
    )
    tests = "import pytest\n@pytest.mark.browser\ndef test_a(): pass\n@pytest.mark.node\ndef test_b(): pass\n"
    (tmp_path / "test_x.py").write_text(tests + "def test_c(): pass\n", encoding="utf-8")
    monkeypatch.setattr(tasks, "ROOT", str(tmp_path))
    environment = env.Environment(str(tmp_path))
    environment.python = sys.executable
    assert tasks.count_tests(environment, ["browser", "node"]) == "2"


def test_the_command_takes_the_place_of_the_set_up(monkeypatch, root):
    """Signals then reach it: a Ctrl-C, or the end of a terminal, ends JupyterLab as it wants to be ended."""
    replaced = []
    monkeypatch.setattr(tasks.os, "execv", lambda path, command: replaced.append((path, command)))
    monkeypatch.setattr(tasks.os, "chdir", lambda path: None)
    monkeypatch.setattr(tasks, "call", lambda command: replaced.append((command[0], command)))
    tasks.hand_over(["python", "-m", "x"])
    assert replaced == [("python", ["python", "-m", "x"])] and os.path.isdir(root)
