"""Whatever a student's function does, the check ends in time and answers in words, with the student's own line."""

import inspect
import signal
import sys
import threading
import time

import pytest

from coursekit.classroom import timelimit
from coursekit.classroom.sandbox import Problem, call_problem, is_stub, run
from coursekit.classroom.timelimit import TimeIsUp, within


def loop_for_ever():
    while True:
        pass


def loop_that_swallows_exceptions():
    while True:
        try:  # noqa: SIM105
            time.sleep(0.001)
        except:  # noqa: E722 - a student's
            pass


def by_signal(seconds, action):
    return within(seconds, action)


def by_thread(seconds, action):
    return timelimit._within_thread(seconds, action)


WAYS = pytest.mark.parametrize("way", [by_signal, by_thread])


@pytest.mark.parametrize(
    ("way", "action"),
    [(by_signal, loop_for_ever), (by_signal, loop_that_swallows_exceptions), (by_thread, loop_for_ever)],
)
def test_a_runaway_loop_is_stopped(way, action):
    """A thread is not stopped where every exception is swallowed; a signal stops that too."""
    threads, tracer = threading.active_count(), sys.gettrace()
    start = time.monotonic()
    with pytest.raises(TimeIsUp):
        way(0.1, action)
    assert time.monotonic() - start < 3
    assert threading.active_count() == threads, "the loop goes on in the background"
    assert sys.gettrace() is tracer


@WAYS
def test_what_ends_in_time_gives_its_value_or_its_error(way):
    assert way(5, lambda: 42) == 42
    with pytest.raises(KeyError, match="gone"):
        way(5, lambda: {}["gone"])


def test_another_timer_goes_on_afterwards():
    """A test runner's time-out uses the same signal; a check must not switch it off."""
    rang = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    before = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        within(5, lambda: None)
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        assert 0 < left <= 0.3
        assert signal.getsignal(signal.SIGALRM) is not handler
        time.sleep(0.4)
        assert rang == [True]
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_outside_the_main_thread_it_works_too():
    caught = []

    def check():
        try:
            within(0.1, loop_for_ever)
        except TimeIsUp:
            caught.append(True)

    thread = threading.Thread(target=check)
    thread.start()
    thread.join(5)
    assert caught == [True]


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
        (lambda: undefined_name, "No such name here"),  # noqa: F821
        (lambda: 2.0**5000, "Beyond the range of Python's own floats"),
        (lambda: [][1], "The index lies beyond the end."),
    ],
)
def test_common_errors_are_explained(action, words):
    assert words in run(action, action, 5).words


def test_endless_recursion_is_explained():
    def again(x):
        return again(x)

    assert "calls itself without end" in run(again, lambda: again(1), 5).words


def test_the_readers_own_interrupt_is_not_swallowed():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupt, interrupt, 5)


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
