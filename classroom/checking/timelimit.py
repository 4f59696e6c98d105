"""Stop a call that takes too long.

The limit is processor time of the call, so a machine that is busy with other programs stops no call early. A call
that only waits uses no processor time: it is stopped after six times as long on the wall clock.

Linux and macOS have a timer signal that interrupts the call (in the main thread, where a notebook's kernel runs cells).
On Windows the call runs in a thread that is told to stop; a wait inside C, such as time.sleep, cannot be interrupted
there: it is left behind and ends by itself.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

WAIT_FACTOR = 6  # seconds on the wall clock per second of processor time
TICK_SECONDS = 0.05


class TimeIsUp(BaseException):
    """Not an Exception, so that `except Exception` in a student's loop does not swallow it."""


class Clock:
    """Measure one call: it is `over()` once its thread has worked `seconds`, or six times that has passed.

    thread_seconds(): processor time of the thread that runs the call.
    """

    def __init__(self, seconds: float, thread_seconds: Callable[[], float] = time.thread_time):
        self.seconds, self.thread_seconds = seconds, thread_seconds
        self.worked_before, self.started = thread_seconds(), time.monotonic()

    def over(self) -> bool:
        worked = self.thread_seconds() - self.worked_before
        waited = time.monotonic() - self.started
        return worked >= self.seconds or waited >= self.seconds * WAIT_FACTOR


def within(seconds: float, action: Callable):
    """Return action(), or raise TimeIsUp once it works longer than that. What action() raises is raised."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        with _alarm(seconds):
            return action()
    return _within_thread(seconds, action)


@contextmanager
def _alarm(seconds: float):
    rings, clock = itertools.count(), Clock(seconds)

    def stop(signum, frame):
        if not clock.over():
            return
        if next(rings):  # the first was swallowed by a bare `except:`
            _stop_inside_handlers(frame)
        raise TimeIsUp

    handler, tracer = signal.signal(signal.SIGALRM, stop), sys.gettrace()
    others, interval = signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(tracer)
        signal.signal(signal.SIGALRM, handler)
        if others:  # another timer (a test runner's) was ticking: it goes on
            passed = time.monotonic() - clock.started
            signal.setitimer(signal.ITIMER_REAL, max(0.01, others - passed), interval)


def _stop_inside_handlers(frame) -> None:
    """Raise TimeIsUp again where an `except:` of the running function or its callers has just caught it.

    What is raised there leaves the loop. The classroom's own functions, further out, are left alone: they have to
    clean up.
    """

    def raise_again(frame, event, argument):
        if sys.exc_info()[0] is TimeIsUp:  # only then: Python takes a tracer away once it has raised
            raise TimeIsUp
        return raise_again

    sys.settrace(lambda *_: None)  # the tracers of frames are heard only where there is one for all
    while frame and os.path.dirname(frame.f_code.co_filename) != os.path.dirname(__file__):
        frame.f_trace = raise_again
        frame = frame.f_back


def _within_thread(seconds: float, action: Callable):
    result: dict[str, object] = {}

    def work():
        try:
            result["value"] = action()
        except BaseException as error:
            result["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    clock = Clock(seconds, lambda: thread_seconds(thread))
    while thread.is_alive() and not clock.over():
        thread.join(TICK_SECONDS)
    stopped = thread.is_alive()
    if stopped:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TimeIsUp))
        thread.join(0.2)
    if "error" in result:
        raise result["error"]
    if stopped:
        raise TimeIsUp
    return result["value"]


def thread_seconds(thread: threading.Thread) -> float:
    """Return the processor time of another thread; of the whole process if the system does not tell."""
    try:
        if hasattr(time, "pthread_getcpuclockid"):  # Linux
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        import psutil

        times = next(t for t in psutil.Process().threads() if t.id == thread.native_id)  # Windows
        return times.user_time + times.system_time
    except (OSError, ImportError, StopIteration):  # it has just ended; macOS counts its threads otherwise
        return time.process_time()
