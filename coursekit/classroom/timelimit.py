"""Stop a call that takes too long.

Where the system has a timer signal (Linux and macOS, in the main thread, where a notebook's kernel runs
cells) the signal interrupts the call. Elsewhere (Windows) the call runs in a thread that is told to stop; a
wait inside C, such as time.sleep, cannot be interrupted there: it is left behind and ends by itself.
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


class TimeIsUp(BaseException):
    """Not an Exception, so that `except Exception` in a student's loop does not swallow it."""


def within(seconds: float, action: Callable):
    """action(), or TimeIsUp once it takes longer than that. What action() raises is raised."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        with _alarm(seconds):
            return action()
    return _within_thread(seconds, action)


@contextmanager
def _alarm(seconds: float):
    rings = itertools.count()

    def stop(signum, frame):
        if next(rings):  # the first was swallowed by a bare `except:`
            _stop_inside_handlers(frame)
        raise TimeIsUp

    handler, tracer = signal.signal(signal.SIGALRM, stop), sys.gettrace()
    started = time.monotonic()
    others, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(tracer)
        signal.signal(signal.SIGALRM, handler)
        if others:  # somebody else's timer (a test runner's) was ticking: it goes on
            signal.setitimer(signal.ITIMER_REAL, max(0.01, others - (time.monotonic() - started)), interval)


def _stop_inside_handlers(frame) -> None:
    """Raise TimeIsUp again where an `except:` of the running function or its callers has just caught it.

    What is raised there leaves the loop. The classroom's own functions, further out, are spared: they have to put
    things in order.
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
    thread.join(seconds)
    stopped = thread.is_alive()
    if stopped:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TimeIsUp))
        thread.join(0.2)
    if "error" in result:
        raise result["error"]
    if stopped:
        raise TimeIsUp
    return result["value"]
