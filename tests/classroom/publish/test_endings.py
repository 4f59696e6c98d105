"""Every command ends with a documented status and, after an error, in a sentence; SIGTERM ends it as Ctrl-C does."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from classroom.publish.endings import (
    STATUSES,
    Amount,
    Course,
    Terminated,
    exit_status,
    missing_module,
    terminated_like_ctrl_c,
)
from classroom.publish.sources import CourseError

PROGRAM = """if True:
    import click
    from classroom.publish.endings import Course

    @click.group(cls=Course)
    def main(): pass

    @main.command()
    def speak(): print("\\u2713 " + "x" * 100)  # buffered until the command ends

    main(["speak"])
"""


def command_that(action) -> Course:
    group = Course("group")
    group.add_command(click.Command("go", callback=action))
    return group


def end_of(error):
    """Return (status, words) of a command in which this error is raised."""

    def fail():
        raise error

    result = CliRunner().invoke(command_that(fail), ["go"])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (CourseError("do this"), 2, "Error: do this"),
        (click.UsageError("not so"), 2, "not so"),
        (KeyboardInterrupt(), 130, "Stopped. Nothing is left running"),
        (Terminated(), 143, "Stopped. Nothing is left running"),
        (ModuleNotFoundError("no", name="nbclient"), 2, f"{sys.executable} -m pip install"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_foreseen_error_is_a_sentence_and_a_status(error, status, words):
    assert status in STATUSES
    code, output = end_of(error)
    assert code == status and words in output


if os.name != "nt":  # there os.kill ends the process at once

    def test_sigterm_between_notebooks_is_told_too():
        def wait():
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)

        result = CliRunner().invoke(command_that(wait), ["go"])
        assert result.exit_code == 143 and "Stopped" in result.output


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), OSError(errno.EACCES, "no"), ModuleNotFoundError("x")]
)
def test_an_unforeseen_error_is_never_status_1(error, monkeypatch, tmp_path):
    """1 is an answer; a crash has 70 and a file to report it with."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, output = end_of(error)
    (report,) = tmp_path.iterdir()
    assert code == 70 and type(error).__name__ in output and "Traceback" not in output
    assert str(report) in output.replace("\n", "") and "Traceback" in report.read_text(encoding="utf-8")


def test_where_no_file_can_be_written_the_traceback_is_printed(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    code, output = end_of(ZeroDivisionError("x"))
    assert code == 70 and "Traceback" in output and "The lines above say where" in output


def run_program(**options):
    environment = {**os.environ, **options.pop("env", {})}
    environment.pop("PYTHONUNBUFFERED", None)  # what is buffered is written, and lost, at the very end
    return subprocess.run([sys.executable, "-c", PROGRAM], timeout=120, env=environment, **options)


def test_a_stream_that_lacks_a_character_gets_a_question_mark(tmp_path):
    """In a file on Windows, cp1252 has no check mark."""
    result = run_program(capture_output=True, env={"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"})
    assert (result.returncode, result.stderr) == (0, b"") and result.stdout.startswith(b"? xxx")


if Path("/dev/full").exists():

    def test_a_full_disk_is_a_sentence():
        with open("/dev/full", "wb") as full:
            result = run_program(stdout=full, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 2 and "the disk is full" in result.stderr
        assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr


def test_a_python_in_a_folder_with_a_space_is_quoted(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/my course/bin/python")
    assert '"/my course/bin/python" -m pip' in missing_module(ModuleNotFoundError("no", name="jupytext"))


def test_a_module_of_nobody_is_not_explained_away():
    assert missing_module(ModuleNotFoundError("no", name="coursekit.typo")) is None


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "much"])
def test_an_amount_is_a_finite_number(value):
    with pytest.raises(click.BadParameter, match=re.escape(value)):
        Amount(min=0.1).convert(value, None, None)
    assert Amount(min=0.1).convert("0.5", None, None) == 0.5


def test_statuses_are_those_of_shells():
    assert (exit_status(KeyboardInterrupt()), exit_status(Terminated())) == (130, 143)


if os.name != "nt":  # there os.kill ends the process at once

    def test_sigterm_is_raised_inside_and_what_it_was_afterwards():
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(Terminated), terminated_like_ctrl_c():
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)
        assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_changes():
    def use():
        with terminated_like_ctrl_c():
            done.append(True)

    done = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert done
