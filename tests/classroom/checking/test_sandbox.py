"""Whatever a student's function does, the check ends in time and answers in words, with the student's own line."""

import inspect
import signal

import pytest
import torch

from classroom.checking.sandbox import Problem, call_problem, is_stub, run


def loop_for_ever():
    while True:
        pass


def divide(x):
    y = x - x
    return x / y


def line_of(function, offset):
    lines, first = inspect.getsourcelines(function)
    return f"line {first + offset}: `{lines[offset].strip()}`"


def test_an_error_names_the_line():
    problem = run(divide, lambda: divide(1), 5)
    assert problem.kind == "error"
    assert problem.line == line_of(divide, 2)
    assert (
        problem.words
        == "Python stopped with `ZeroDivisionError: division by zero`. Which of your values is 0 for this input?"
    )


def parse(x):
    return int(x, base=99)


def helper_first(x):
    return parse(x)


def test_an_error_inside_a_library_names_the_students_own_deepest_line():
    import statistics

    def mean(values):
        return statistics.mean(values)

    problem = run(mean, lambda: mean([]), 5)
    assert problem.line == line_of(mean, 1)
    assert "StatisticsError" in problem.words
    assert run(helper_first, lambda: helper_first("1"), 5).line == line_of(parse, 1)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: exit(), "exit() ends the whole notebook"),
        (lambda: undefined_name, "This name is not defined"),  # noqa: F821
        (lambda: 2.0**5000, "beyond the range of Python's floats"),
        (lambda: [][1], "The index is beyond the end."),
    ],
)
def test_common_errors_are_explained(action, words):
    assert words in run(action, action, 5).words


def test_endless_recursion_is_explained():
    def again(x):
        return again(x)

    assert "calls itself without end" in run(again, lambda: again(1), 5).words


def test_the_readers_own_interrupt_is_not_swallowed():
    """Ctrl-C, or the notebook's stop button."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(divide, lambda: signal.raise_signal(signal.SIGINT), 5)
    assert signal.getsignal(signal.SIGINT) is before


class Speechless(Exception):
    def __str__(self):
        raise SystemExit


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit, BaseException, Speechless])
def test_whatever_is_raised_becomes_a_problem(error):
    def fail():
        raise error

    problem = run(fail, fail, 5)
    assert problem.kind == "error" and f"`{error.__name__}: " in problem.words
    assert problem.line == line_of(fail, 1)


def test_what_torch_has_no_kernel_for_is_an_error_and_not_a_stub():
    """torch raises NotImplementedError where a kernel is missing; so does an exercise that is not begun."""

    def of_nothing(x):
        return torch.empty(1, device="meta").tolist()

    problem = run(of_nothing, lambda: of_nothing(1), 5)
    assert problem.kind == "error" and "NotImplementedError" in problem.words
    assert run(stub_that_raises, lambda: stub_that_raises(1), 5).kind == "not started"


def test_time_is_told_with_the_line():
    problem = run(loop_for_ever, loop_for_ever, 0.1)
    assert problem.kind == "time"
    assert problem.words == "Still running after 0.1 s, so it was stopped."
    assert problem.line in (line_of(loop_for_ever, 1), line_of(loop_for_ever, 2))


def test_all_is_well():
    assert run(divide, lambda: None, 5) is None


def one(x): ...


def two(x, step=1):
    """Only a docstring."""


@pytest.mark.parametrize(
    ("function", "count", "words"),
    [
        (None, 1, "`f` without brackets; it got None"),
        (3.5, 1, "`f` without brackets; it got what it returned, 3.5"),
        (one, 2, "gives your function 2 arguments; it is defined as `f(x)`"),
        (two, 3, "it is defined as `f(x, step=1)`"),
    ],
)
def test_what_cannot_be_called_is_told_how(function, count, words):
    problem = call_problem(function, count, "f")
    assert problem.kind == "call"
    assert words in problem.words


@pytest.mark.parametrize(
    ("function", "count"), [(one, 1), (two, 1), (two, 2), (len, 1), (int, 1), (lambda *a: a, 3)]
)
def test_what_can_be_called_has_no_problem(function, count):
    assert call_problem(function, count, "f") is None


class Awkward:
    """Looks like many things and is none."""

    __wrapped__ = property(lambda self: self)
    __signature__ = property(lambda self: 1 / 0)

    def __call__(self, x):
        return x

    def __repr__(self):
        raise ValueError("no words")


def test_an_object_that_misbehaves_when_looked_at_is_no_trouble():
    assert call_problem(Awkward(), 1, "f") is None and not is_stub(Awkward())
    assert run(Awkward(), lambda: 1 / 0, 5).kind == "error"
    assert "f` without brackets" in call_problem([Awkward()], 1, "f").words


def test_dots_for_a_function_are_not_started():
    assert call_problem(..., 1, "f") == Problem("not started", "")


def stub_with_return(x):
    return ...


def stub_that_raises(x):
    """Doc."""
    # your code here
    raise NotImplementedError("later")


def stub_with_pass(x):
    pass


def not_a_stub(x):
    print(x)
    raise NotImplementedError


def returns_none(x):
    print(x)


def test_stubs_are_told_from_code():
    assert all(map(is_stub, (one, two, stub_with_return, stub_that_raises, stub_with_pass)))
    assert not any(map(is_stub, (not_a_stub, returns_none, divide, len, lambda x: x)))
