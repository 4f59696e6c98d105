"""Being told to stop: Ctrl-C and SIGTERM end a command in the same way, with nothing left running."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM came: from `timeout`, from a CI that cancels, from a shutdown."""


def exit_status(stop: KeyboardInterrupt) -> int:
    """128 + the signal's number, as shells count."""
    return 143 if isinstance(stop, Terminated) else 130


@contextmanager
def terminated_like_ctrl_c():
    """Inside, SIGTERM raises Terminated; afterwards the signal means what it meant before.

    Outside the main thread, where Python has no signals, nothing changes. On Windows a process is ended
    without a signal; there the watch of a kernel sees that its parent is gone.
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
