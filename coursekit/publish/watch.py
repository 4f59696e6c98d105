"""Watches a running kernel and stops it before it takes the machine down.

A kernel that asks for more memory than there is gets the whole machine to swap, or is killed without a
word, and a client that waits for its reply learns nothing. The watch looks ten times a second, keeps the
highest amount seen, and when a limit is passed kills the kernel and all it started, and says why.
"""

from __future__ import annotations

import threading
import time

import psutil

GB = 10**9
INTERVAL_SECONDS = 0.1
FREE_FLOOR_BYTES = 200 * 10**6  # below this the machine itself is about to stall


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and all its descendants; 0 if it is gone.

    A child's pages that it shares with its parent (libraries, a fork's untouched memory) are counted once,
    where the system tells them apart (Linux).
    """
    try:
        parent = psutil.Process(pid)
        total = parent.memory_info().rss
        children = parent.children(recursive=True)
    except psutil.Error:
        return 0
    return total + sum(own_bytes(child) for child in children)


def own_bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return memory.rss - getattr(memory, "shared", 0)


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants; nothing happens if it is gone."""
    try:
        parent = psutil.Process(pid)
        doomed = [parent, *parent.children(recursive=True)]  # the parent first, or it may start another child
    except psutil.Error:
        return
    for process in doomed:
        try:
            process.kill()
        except psutil.Error:
            continue


class Watch:
    """Holds the process `pid` and what it starts to `limit_bytes` and `seconds`, from `start()` to `stop()`.

    `peak_bytes` is the highest amount seen; `verdict` is None, or the sentence that says why the process
    was killed.
    """

    def __init__(self, pid: int, limit_bytes: float, seconds: float):
        self.pid, self.limit_bytes, self.seconds = pid, limit_bytes, seconds
        self.peak_bytes = 0
        self.verdict: str | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="kernel watch", daemon=True)

    def start(self) -> None:
        self._deadline = time.monotonic() + self.seconds
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.is_set():
            held = tree_bytes(self.pid)
            self.peak_bytes = max(self.peak_bytes, held)
            self.verdict = self._judge(held)
            if self.verdict:
                return kill_tree(self.pid)
            self._done.wait(INTERVAL_SECONDS)
        return None

    def _judge(self, held: int) -> str | None:
        if held > self.limit_bytes:
            return (
                f"stopped at {held / GB:.2f} GB: the limit is {self.limit_bytes / GB:.2f} GB of memory. "
                "Allow more with --ram-limit, or take smaller sizes (--profile ci)."
            )
        if psutil.virtual_memory().available < FREE_FLOOR_BYTES:
            return (
                f"stopped at {held / GB:.2f} GB: this machine has less than {FREE_FLOOR_BYTES / GB:.1f} GB "
                "left. Close other programs, or take smaller sizes (--profile ci)."
            )
        if time.monotonic() > self._deadline:
            return f"stopped after {self.seconds:.0f} s, the limit of a notebook. Allow more with --timeout."
        return None
