"""What one notebook may take: memory and time, which a watch enforces, and how much each cell may print.

A kernel that asks for more memory than there is makes the whole machine swap, or is killed silently, and a client waits
for its reply in vain. The watch looks ten times per second and keeps the highest amount seen. When a limit is exceeded
it kills the kernel and everything the kernel started, and says why.

The watch is a process of its own: this file is started as a program. So it also looks while the program that started it
is busy. When that program is gone, however it ended, the watch kills the kernel and ends too. It finds what a kernel
has started in two ways: as a descendant, and by a mark in the environment, which a daemon keeps after it has left its
parent (Linux and macOS; on Windows too, as far as psutil may read another process).

The pieces that a cell prints are joined as a terminal would show them, and cut at 1 MB. nbclient can join them too, in
time quadratic in the length of a line: an hour for a line of a million characters. The result here is the same,
character for character, in one pass.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

GB = 10**9  # as coursekit.units has it, which this file may not find when it runs as a program
INTERVAL_SECONDS = 0.1
FREE_FLOOR_BYTES = 200 * 10**6  # below this the machine itself is about to stall
REPORT_STEP_BYTES = 10**7  # the watch tells of a new peak when it is this much higher
MARK = "COURSEKIT_RUN"  # the environment variable that all processes of one run carry
CAP_CHARACTERS = 10**6  # of one cell, stdout and stderr together


@dataclass(frozen=True)
class Limits:
    """What one notebook may take. Memory counts the kernel and everything it starts."""

    ram_bytes: float = 4 * GB
    cell_seconds: float = 300
    seconds: float = 1200


def too_long(limits: Limits) -> str:
    """Say why a cell was stopped at its time limit."""
    return f"this cell ran longer than {limits.cell_seconds:.0f} s. Allow more with --cell-timeout."


def new_mark() -> str:
    """Return a value for MARK that no other run has."""
    return uuid.uuid4().hex


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process and all its descendants; 0 if it is gone.

    Pages that a child shares with its parent (libraries, a fork's untouched memory) are counted once where the system
    tells them apart (Linux).
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


def marked(mark: str) -> Iterator[psutil.Process]:
    """Yield the processes, except this one, that were started with this mark in their environment."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield process
        except (psutil.Error, OSError):
            continue


def kill_tree(pid: int, mark: str = "") -> None:
    """Kill a process, its descendants and all processes that carry `mark`; processes that are gone do not matter."""
    try:
        parent = psutil.Process(pid)
        doomed = [parent, *parent.children(recursive=True)]  # the parent first, or it may start another child
    except psutil.Error:
        doomed = []
    kill(doomed)
    for _ in range(5 if mark else 0):  # again: a process may start another one while we look
        found = list(marked(mark))
        if not found:
            return
        kill(found)
        psutil.wait_procs(found, timeout=1)


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue


def judge(held: int, limit_bytes: float, floor_bytes: float = FREE_FLOOR_BYTES) -> str | None:
    """Return why a kernel that holds this many bytes has to stop, or None."""
    if held > limit_bytes:
        return (
            f"stopped at {held / GB:.2f} GB: the limit is {limit_bytes / GB:.2f} GB of memory. "
            "Allow more with --ram-limit, or take smaller sizes (--profile ci)."
        )
    if psutil.virtual_memory().available < floor_bytes:
        return (
            f"stopped at {held / GB:.2f} GB: this machine has less than {floor_bytes / GB:.1f} GB "
            "left. Close other programs, or take smaller sizes (--profile ci)."
        )
    return None


class Watch:
    """Holds the process `pid` and what it starts to `limit_bytes` and `seconds`, from `start()` to `stop()`.

    `mark` is what the process carries in its environment as MARK, if anything. `peak_bytes` is the highest
    amount seen; `verdict` is None, or the sentence that says why the process was killed.
    """

    def __init__(self, pid: int, limit_bytes: float, seconds: float, mark: str = ""):
        self.pid = pid
        self.limit_bytes = limit_bytes
        self.seconds = seconds
        self.mark = mark
        self.peak_bytes = 0
        self.verdict: str | None = None
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        settings = [str(value) for value in (self.pid, self.limit_bytes, self.seconds, self.mark)]
        # -P: the folder of this file is not a place to import from. The group of its own keeps Ctrl-C away.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != MARK},
            text=True,
            **own_group(),
        )
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="kernel watch", daemon=True
        )
        self._reader.start()

    def stop(self) -> None:
        """End the watch and read what it saw last. The process that it watched is left alone."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):  # the watch has ended before: its verdict is in the pipe
            process.stdin.write("stop\n")
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()
        self._reader.join()
        process.stdout.close()

    def _read(self, lines) -> None:
        for line in lines:
            self.peak_bytes, self.verdict = json.loads(line)


def own_group() -> dict:
    """Return the arguments of Popen that take a process out of the terminal's group."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def look(pid: int, limit_bytes: float, seconds: float, mark: str) -> None:
    """Look until told to stop, and print [peak bytes, verdict] at each change: the watch's own program."""
    told = threading.Event()
    words: list[bytes] = []
    threading.Thread(target=_listen, args=(words, told), daemon=True).start()
    deadline = time.monotonic() + seconds
    peak, reported = 0, -REPORT_STEP_BYTES
    verdict = None
    while not told.is_set() and verdict is None:
        held = tree_bytes(pid)
        peak = max(peak, held)
        verdict = judge(held, limit_bytes)
        if time.monotonic() > deadline:
            verdict = f"stopped after {seconds:.0f} s, the limit of a notebook. Allow more with --timeout."
        if peak > reported + REPORT_STEP_BYTES and not verdict:
            reported = peak
            _tell(peak, None)
        told.wait(0 if verdict else INTERVAL_SECONDS)
    if verdict or not words:  # the pipe ended without the word "stop": the program that started us is gone
        kill_tree(pid, mark)
    _tell(peak, verdict)


def _listen(words: list[bytes], told: threading.Event) -> None:
    words += os.read(0, 100).split()  # not sys.stdin: Python cannot end while a thread holds its lock
    told.set()


def _tell(peak: int, verdict: str | None) -> None:
    try:
        print(json.dumps([peak, verdict]), flush=True)
    except OSError:  # the program that started the watch is gone
        return


# ---------------------------------------------------------------- what a cell prints


def after_returns(text: str) -> str:
    """Remove from the text what each carriage return overwrites; a return at the end of a line stays."""
    return "\n".join(map(_after_returns, text.split("\n")))


def _after_returns(line: str) -> str:
    body, end = (line[:-1], "\r") if line.endswith("\r") else (line, "")
    return body.rpartition("\r")[2] + end


def joined(outputs: list) -> list:
    """Join what a cell wrote on stdout into one output, and stderr into another, each where its first piece stood.

    Where the two stand side by side, stdout comes first: which of them arrives first depends on the clock.
    """
    pieces = {"stdout": [], "stderr": []}
    kept = []
    for output in outputs:
        if output["output_type"] != "stream":
            kept.append(output)
            continue
        if not pieces[output["name"]]:
            kept.append(output)
        pieces[output["name"]].append(output["text"])
    for output in kept:
        if output["output_type"] == "stream":
            output["text"] = after_returns("".join(pieces[output["name"]]))
    return _stdout_first(kept)


def _stdout_first(outputs: list) -> list:
    names = [output.get("name") for output in outputs]
    for i, pair in enumerate(itertools.pairwise(names)):
        if pair == ("stderr", "stdout"):
            outputs[i], outputs[i + 1] = outputs[i + 1], outputs[i]
            break
    return outputs


class Allowance:
    """What one cell may still print."""

    def __init__(self):
        self.held = 0
        self.left_out = 0

    def take(self, outputs: list, text: str) -> str:
        """Return what may be kept. A progress bar's outputs so far are joined in place when they fill the cap."""
        only_streams = all(output["output_type"] == "stream" for output in outputs)
        if self.held + len(text) > CAP_CHARACTERS and not self.left_out and only_streams:
            outputs[:] = joined(outputs)
            self.held = sum(len(output["text"]) for output in outputs)
        kept = text[: max(0, CAP_CHARACTERS - self.held)]
        self.held += len(kept)
        self.left_out += len(text) - len(kept)
        return kept

    def settle(self, outputs: list) -> list:
        """Join the cell's outputs, with a line on what was left out."""
        outputs = joined(outputs)
        printed = [output for output in outputs if output["output_type"] == "stream"]
        if self.left_out and printed:
            megabytes = self.left_out / 10**6
            printed[0]["text"] += f"\n... {megabytes:,.1f} MB more were printed and left out\n"
        self.left_out = 0
        return outputs


if __name__ == "__main__":
    _pid, _limit, _seconds, _mark = sys.argv[1:]
    look(int(_pid), float(_limit), float(_seconds), _mark)
