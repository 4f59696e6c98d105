"""How a command ends: in a sentence where the user can fix the problem, and never in a traceback.

STATUSES is the list that `coursekit --help` shows. An unforeseen error has a status of its own: 1 means something for
every command (a plan does not fit, an exercise is not passed), and a crash must not look like it. Ctrl-C and SIGTERM
end a command in the same way, with nothing left running.
"""

from __future__ import annotations

import errno
import math
import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path

import click

from classroom.publish.sources import CourseError

STATUSES = {
    0: "all is well",
    1: "the answer is no: a notebook failed, a file is stale, an exercise is not passed, a plan does not fit",
    2: "something you can fix; a sentence says what and how",
    70: "an unforeseen error; the sentence names a file to report it with",
    130: "stopped with Ctrl-C",
    143: "stopped with SIGTERM",
}
UNFORESEEN = 70
DISK_FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)
# modules that an extra of pyproject.toml brings
EXTRA_OF = dict.fromkeys(("nbclient", "nbformat"), "lab") | dict.fromkeys(
    ("jupytext", "latex2mathml", "nbconvert", "nbgrader", "nbstripout", "papermill", "playwright", "yaml"),
    "publish",
)


class Problem(click.ClickException):
    exit_code = 2


class Amount(click.FloatRange):
    """A finite number in a range."""

    name = "number"

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Course(click.Group):
    """A group whose commands end in one of STATUSES and, except for 0 and 1, in a sentence."""

    def main(self, *args, **options):
        print_what_the_stream_can()
        try:
            try:
                return super().main(*args, **options)
            finally:
                sys.stdout.flush()  # here, where a full disk can still be reported
        except OSError as error:
            sys.exit(output_lost(error))

    def invoke(self, ctx):
        try:
            with terminated_like_ctrl_c():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            click.echo("\nStopped. Nothing is left running; the same command starts again.", err=True)
            sys.exit(exit_status(stop))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except CourseError as error:
            raise Problem(str(error)) from error
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and (words := missing_module(error)):
                raise Problem(words) from error
            if isinstance(error, OSError) and error.errno in (errno.EPIPE, *DISK_FULL):
                raise  # about the output: main reports it
            sys.exit(unforeseen(error))


def missing_module(error: ModuleNotFoundError) -> str | None:
    """Say what to install; None if the module belongs to no extra."""
    name = (error.name or "").split(".")[0]
    if name not in EXTRA_OF:
        return None
    # PowerShell takes a quoted path for a text, so quotes only where they are needed
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return (
        f"this command needs {name}, which is not installed. In the folder of the course run:\n"
        f'  {python} -m pip install -c constraints.txt -e ".[{EXTRA_OF[name]}]"'
    )


def print_what_the_stream_can() -> None:
    """Print a question mark for a character that the output cannot encode, as a file on Windows lacks check marks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def output_lost(error: OSError) -> int:
    """Report that the output could not be written, and keep Python from trying again when it ends."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    if error.errno == errno.EPIPE:  # `| head`: the reader has seen enough
        return 0
    if error.errno not in DISK_FULL:
        return unforeseen(error)
    click.echo(
        "Error: the result could not be written: the disk is full. Free some space and run the same command again.",
        err=True,
    )
    return Problem.exit_code


def unforeseen(error: Exception) -> int:
    """Ask the user to report the error. Its traceback goes to a file, or to the error stream if none can be written."""
    words = "".join(traceback.format_exception(error))
    report = f"coursekit {' '.join(sys.argv[1:])}\nPython {sys.version}\n{platform.platform()}\n\n{words}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="coursekit-error-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(report)
        place = f"The file {Path(file.name)} says where"
    except OSError:
        click.echo(report, err=True)
        place = "The lines above say where"
    click.echo(
        f"Error: an unforeseen {type(error).__name__}. It is a mistake in the course's own code, not yours. "
        f"{place}; please send it to the people who gave you the course.",
        err=True,
    )
    return UNFORESEEN


def statuses_text() -> str:
    """Return STATUSES as lines for `--help`."""
    return "\n".join(f"  {number:>3}  {words}" for number, words in STATUSES.items())


class Terminated(KeyboardInterrupt):
    """SIGTERM came: from `timeout`, from a CI that cancels, from a shutdown."""


def exit_status(stop: KeyboardInterrupt) -> int:
    """Return 128 + the signal's number, as shells do."""
    return 143 if isinstance(stop, Terminated) else 130


@contextmanager
def terminated_like_ctrl_c():
    """Let SIGTERM raise Terminated inside the block; afterwards the signal means what it meant before.

    Outside the main thread, where Python has no signals, nothing changes. On Windows a process is ended without a
    signal; there the watch of a kernel sees that its parent is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
