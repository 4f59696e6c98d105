"""Run a student's function: stop it when it does not end, and say in words what went wrong on which of its
lines.

The rest of the classroom never sees an exception of the student's code, only a Problem.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from coursekit.classroom.timelimit import TimeIsUp, within


@dataclass(frozen=True)
class Problem:
    """No answers: why. `kind`: "not started", "error", "time", "call". `line`: the student's own."""

    kind: str
    words: str
    line: str = ""


#           exception, what it usually means
MEANINGS = {
    ZeroDivisionError: "Which of your values is 0 for this input?",
    OverflowError: "Beyond the range of Python's own floats (about 1.8e308), or infinity made an integer.",
    RecursionError: "The function calls itself without end: what stops it?",
    NameError: "No such name here: a typing error, a missing import, or a cell above that was not run.",
    IndexError: "The index lies beyond the end.",
    SystemExit: "exit() ends the whole notebook; use `return`.",
}


def run(function: Callable, action: Callable, seconds: float) -> Problem | None:
    """Do action(), which calls the student's `function`; a Problem if that went wrong, else None."""
    try:
        within(seconds, action)
    except TimeIsUp as stop:
        return Problem(
            "time", f"Still running after {seconds:g} s, so it was stopped.", student_line(function, stop)
        )
    except NotImplementedError:
        return Problem("not started", "")
    except (Exception, SystemExit) as error:
        first = (str(error).splitlines() or [""])[0][:200]
        meaning = next((words for kind, words in MEANINGS.items() if isinstance(error, kind)), "")
        words = f"Python stopped with `{type(error).__name__}: {first}`. {meaning}".strip()
        return Problem("error", words, student_line(function, error))
    return None


def student_line(function: Callable, error: BaseException) -> str:
    """The deepest line of the student's own cell or file on the way to the error: line 3: `return 1 / 0`.

    Empty where the error comes from none of them.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    home = code.co_filename if code else None
    own = [
        number for frame, number in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == home
    ]
    if not own:
        return ""
    source = linecache.getline(home, own[-1]).strip()
    return f"line {own[-1]}: `{source}`" if source else f"line {own[-1]}"


def call_problem(function, count: int, name: str) -> Problem | None:
    """None if `function` can be called with `count` arguments, else what to change."""
    if function is ...:
        return Problem("not started", "")
    if not callable(function):
        what = f"what it returned, {function!r}"[:80] if function is not None else "None"
        return Problem(
            "call", f"The check takes the function itself, `{name}` without brackets; it got {what}."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions keep no signature
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
    """Is nothing written yet: only a docstring, `...`, `pass`, `return`, `return ...`, or raise
    NotImplementedError?

    Where Python keeps no source, the answer is no.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
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
