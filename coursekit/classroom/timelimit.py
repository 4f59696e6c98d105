"""Stop a call that takes too long.

Where the system has a timer signal (Linux and macOS, in the main thread, where a notebook's kernel runs
cells) the signal interrupts the call. Elsewhere (Windows) the call runs in a thread that is told to stop; a
wait inside C, such as time.sleep, cannot be interrupted there: it is left behind and ends by itself.
"""

from __future__ import annotations

import ctypes
import signal
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
    def stop(signum, frame):
        raise TimeIsUp

    handler = signal.signal(signal.SIGALRM, stop)
    started = time.monotonic()
    # it rings again and again, should a bare `except:` swallow the first
    others, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if others:  # somebody else's timer (a test runner's) was ticking: it goes on
            signal.setitimer(signal.ITIMER_REAL, max(0.01, others - (time.monotonic() - started)), interval)


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
    for _ in range(10):  # again and again, for the same reason
        if not thread.is_alive():
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(TimeIsUp))
        thread.join(0.2)
    if "error" in result:
        raise result["error"]
    if stopped:
        raise TimeIsUp
    return result["value"]
