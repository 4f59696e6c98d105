"""What runs too long is stopped, whichever way; what ends in time is left alone."""

import signal
import sys
import threading
import time

import pytest

from classroom.checking import timelimit
from classroom.checking.timelimit import TimeIsUp, within


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
    started = time.process_time()
    with pytest.raises(TimeIsUp):
        way(0.1, action)
    assert time.process_time() - started < 3
    assert threading.active_count() == threads, "the loop goes on in the background"
    assert sys.gettrace() is tracer


@WAYS
def test_only_the_processors_time_of_the_call_counts(way, monkeypatch):
    """A machine that is busy with other programs gives a call little of each second: that stops nobody."""
    monkeypatch.setattr(timelimit, "WAIT_FACTOR", 10**6)
    way(0.1, lambda: time.sleep(0.4))
    with pytest.raises(TimeIsUp):
        way(0.1, loop_for_ever)


@WAYS
def test_what_only_waits_is_stopped_by_the_net(way):
    def waits():
        while True:
            time.sleep(0.01)

    with pytest.raises(TimeIsUp):
        way(0.05, waits)


def test_the_time_of_another_thread_and_of_one_that_is_gone():
    go, done = threading.Event(), threading.Event()

    def work():
        sum(range(2_000_000))
        done.set()
        go.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    done.wait(60)
    assert 0 < timelimit.thread_seconds(thread) <= time.process_time()
    go.set()
    thread.join()


@WAYS
def test_what_ends_in_time_gives_its_value_or_its_error(way):
    assert way(5, lambda: 42) == 42
    with pytest.raises(KeyError, match="gone"):
        way(5, lambda: {}["gone"])


def test_another_timer_goes_on_afterwards():
    """A test runner's time-out uses the same signal; a check must not switch it off."""
    rang = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    before = signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        within(5, lambda: None)
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        assert 0 < left <= 1
        assert signal.getsignal(signal.SIGALRM) is not handler
        signal.pause()
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
    thread.join(60)
    assert caught == [True]
