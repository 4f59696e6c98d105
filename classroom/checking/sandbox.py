"""Run a student's function: stop it if it does not end, and say in words what went wrong and on which line.

The rest of the classroom never sees an exception of the student's code, only a Problem.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import signal
import textwrap
import threading
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

from classroom.checking.answers import show_value
from classroom.checking.timelimit import TimeIsUp, within


@dataclass(frozen=True)
class Problem:
    """Why a call gave no answer. `kind`: "not started", "error", "time" or "call". `line`: the student's own."""

    kind: str
    words: str
    line: str = ""


#           exception, what it usually means
MEANINGS = {
    ZeroDivisionError: "Which of your values is 0 for this input?",
    OverflowError: "A number is beyond the range of Python's floats (about 1.8e308), or infinity was made an integer.",
    RecursionError: "The function calls itself without end: what stops it?",
    NameError: "This name is not defined: a typing error, a missing import, or a cell above that was not run.",
    IndexError: "The index is beyond the end.",
    SystemExit: "exit() ends the whole notebook; use `return`.",
    KeyboardInterrupt: "Your own code raised it; Ctrl-C was not pressed.",
}


def run(function: Callable, action: Callable, seconds: float) -> Problem | None:
    """Run action(), which calls the student's `function`; return a Problem if that went wrong, else None.

    Every exception becomes a Problem; only the reader's own Ctrl-C is raised again.
    """
    with _ctrl_c_heard() as heard:
        try:
            within(seconds, action)
        except TimeIsUp as stop:
            words = f"Still running after {seconds:g} s, so it was stopped."
            return Problem("time", words, student_line(function, stop))
        except BaseException as error:
            if heard:
                raise KeyboardInterrupt from error
            return _explained(function, error)
    return None


@contextmanager
def _ctrl_c_heard():
    """Give a list that is not empty once Ctrl-C was pressed: code can raise KeyboardInterrupt by itself."""
    heard: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield heard
        return

    def hear(signum, frame):
        heard.append(signum)
        handler(signum, frame)

    signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, handler)


def _explained(function: Callable, error: BaseException) -> Problem:
    line = student_line(function, error)
    # torch raises NotImplementedError too, where it has no kernel for a dtype
    if isinstance(error, NotImplementedError) and "NotImplementedError" in line:
        return Problem("not started", "")
    meaning = next((words for kind, words in MEANINGS.items() if isinstance(error, kind)), "")
    words = f"Python stopped with `{type(error).__name__}: {first_line(error)}`. {meaning}"
    return Problem("error", words.strip(), line)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, cut to 200 characters; empty if it cannot say it."""
    said: list[str] = []
    try:
        within(1, lambda: said.append(str(error)))  # a student's own __str__ may do anything
    except BaseException:
        return ""
    return (said[0].splitlines() or [""])[0][:200]


def student_line(function: Callable, error: BaseException) -> str:
    """The deepest line of the student's own cell or file on the way to the error: line 3: `return 1 / 0`.

    Empty if the error comes from none of them.
    """
    home = _file_of(function)
    own = [
        number for frame, number in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == home
    ]
    if not own:
        return ""
    source = linecache.getline(home, own[-1]).strip()
    return f"line {own[-1]}: `{source}`" if source else f"line {own[-1]}"


def _file_of(function) -> str | None:
    try:
        return inspect.unwrap(function).__code__.co_filename
    except Exception:  # an object with __call__, a built-in function, a chain of wrappers without end
        return None


def call_problem(function, count: int, name: str) -> Problem | None:
    """Return None if `function` can be called with `count` arguments, else what to change."""
    if function is ...:
        return Problem("not started", "")
    if not callable(function):
        what = f"what it returned, {show_value(function)}"[:80] if function is not None else "None"
        return Problem(
            "call", f"The check takes the function itself, `{name}` without brackets; it got {what}."
        )
    try:
        signature = inspect.signature(function)
    except Exception:  # some built-in functions keep no signature, and objects may say anything
        return None
    try:
        signature.bind(*range(count))
    except TypeError:
        gives = f"{count} argument{'s' if count > 1 else ''}"
        return Problem(
            "call", f"The check gives your function {gives}; it is defined as `{name}{signature}`."
        )
    return None


def is_stub(function: Callable) -> bool:
    """Is nothing written yet? Only a docstring, `...`, `pass`, `return`, `return ...`, raise NotImplementedError?

    Without source the answer is no.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except Exception:  # no source, or an object that only looks like a function
        return False
    body = next((node.body for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    return body is not None and all(_says_nothing(statement) for statement in body)


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return "NotImplementedError" in ast.dump(statement)
    if isinstance(statement, (ast.Expr, ast.Return)):
        value = statement.value
        return value is None or (isinstance(value, ast.Constant) and _is_filler(value.value))
    return isinstance(statement, ast.Pass)


def _is_filler(value) -> bool:
    return value is ... or value is None or isinstance(value, str)
