"""Runs one notebook headless in a kernel of its own: seconds, peak memory, and where and why it failed.

papermill sets the parameters. nbclient, on which papermill itself is built, runs the cells. Calling nbclient directly
keeps three things that papermill's loop takes away: cells tagged `raises-exception` may fail, the kernel's process is
known (so that `limits.Watch` can watch it), and `coursekit check` works for students who have JupyterLab but not
papermill. Added to nbclient are: limits on memory, time and output, the reason why a kernel died, the meaning of Ctrl-C
and SIGTERM, and how a run continues after a cell that took too long. Every run gets a fresh kernel, and none is left
afterwards, whatever happens in between.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

from classroom.publish.endings import Terminated, terminated_like_ctrl_c
from classroom.publish.limits import MARK, Allowance, Limits, Watch, kill_tree, new_mark, too_long
from classroom.publish.sources import with_parameters

# The same number of threads and the same hash seed everywhere: torch splits a sum by threads, so the last digits of a
# committed output depend on their number.
REPRODUCIBLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
REASON_CHARACTERS = 2000  # of an error's own words: a student's may be megabytes
GRACE_SECONDS = 10  # to answer an interrupt. Python does so at its next step; a loop inside C never does.
STARTUP_SECONDS = 180  # nbclient's 60 are not enough for a kernel on a very busy machine
OUTPUT_SECONDS = 30  # from a cell's reply to its last output; nbclient drops later ones silently, after 4


@dataclass(frozen=True)
class Failure:
    """Where a run ended: the cell's number among the code cells (from 1), its source, and why in words."""

    cell: int
    source: str
    reason: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One execution of one notebook. `notebook` holds the outputs, up to the failure if there is one.

    overtime: numbers of the code cells that were interrupted at their time limit while the run continued.
    """

    label: str
    notebook: object = field(repr=False)
    code_cells: int
    seconds: float
    peak_bytes: int
    failure: Failure | None = None
    overtime: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        return self.failure is None


def execute(
    notebook,
    label: str,
    *,
    cwd: Path,
    parameters: Mapping | None = None,
    limits: Limits | None = None,
    env: Mapping[str, str] | None = None,
    allow_errors: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Run:
    """Execute a copy of `notebook` in a fresh kernel, in the folder `cwd`, with `env` added to the environment.

    `progress(cell, cells, bytes)` is called before each cell. With `allow_errors` the run continues after a cell that
    fails or is interrupted at its time limit; only a kernel that dies or does not answer an interrupt is a failure.
    Raises CourseError for a parameter that the notebook does not have.
    """
    limits = limits or Limits()
    notebook = with_parameters(notebook, parameters or {})
    session = Session(notebook, limits, progress)
    started = time.monotonic()
    reason = session.run(cwd, dict(env or {}), allow_errors)
    seconds = time.monotonic() - started
    failure = failure_at(notebook, session.at, reason) if reason else None
    overtime = tuple(code_number(notebook, index) for index in session.overtime)
    return Run(label, notebook, session.code_cells, seconds, session.peak_bytes, failure, overtime)


def code_number(notebook, index: int) -> int:
    """Return the number among the code cells, from 1, of the cell at `index`."""
    return sum(cell.cell_type == "code" for cell in notebook.cells[: index + 1])


def failure_at(notebook, index: int, reason: str) -> Failure:
    """Return the failure of the cell at `index`, with the traceback it shows."""
    cell = notebook.cells[index]
    lines = [line for output in cell.get("outputs", []) for line in output.get("traceback", [])]
    traceback = ANSI.sub("", "\n".join(lines)).splitlines()
    return Failure(code_number(notebook, index), cell.source, reason, tuple(traceback))


class Session:
    """One kernel, from start to end.

    at: index of the cell that runs. overtime: indices of the cells that were interrupted at their time limit.
    """

    def __init__(self, notebook, limits: Limits, progress):
        self.notebook = notebook
        self.limits = limits
        self.progress = progress
        self.code_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        self.at = 0
        self.overtime: list[int] = []
        self.watch: Watch | None = None
        self.process = None
        self.mark = new_mark()
        self.allowance = Allowance()
        self.stopped_by: type[KeyboardInterrupt] | None = None

    @property
    def peak_bytes(self) -> int:
        return self.watch.peak_bytes if self.watch else 0

    def run(self, cwd: Path, env: dict, allow_errors: bool) -> str | None:
        """Run all cells and return why the run ended early, or None.

        Raises KeyboardInterrupt after Ctrl-C and Terminated after SIGTERM, when the kernel is gone.
        """
        client = self._client(allow_errors)
        environment = {**os.environ, **env, MARK: self.mark}
        # nbclient's loop handles SIGTERM, but not where this thread has a loop already and nbclient starts another.
        with tempfile.TemporaryFile("w+", errors="replace") as stderr, terminated_like_ctrl_c():
            try:
                return self._execute(client, cwd, environment, stderr)
            finally:
                self._stop()
                self._settle_outputs()
                # nbclient 0.11 leaves this behind if a kernel does not start, and it fails when Python ends
                atexit.unregister(client._cleanup_kernel)

    def _execute(self, client, cwd: Path, environment: dict, stderr) -> str | None:
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

        try:
            client.execute(cwd=str(cwd), env=environment, stderr=stderr)
        except CellExecutionError as error:
            return f"{error.ename}: {ANSI.sub('', error.evalue)}"[:REASON_CHARACTERS]
        except CellTimeoutError:
            return too_long(self.limits)
        except DeadKernelError:
            return self._death("died while this cell ran", stderr)
        except RuntimeError as error:  # jupyter_client's, while it waits for a kernel to answer
            return self._death(f"did not start: {error}", stderr)
        except AssertionError:  # nbclient's, where the kernel was stopped while it started
            if self.stopped_by is None:
                raise
        if self.stopped_by:
            raise self.stopped_by
        return None

    def _client(self, allow_errors: bool):
        from nbclient import NotebookClient
        from nbclient.exceptions import CellTimeoutError

        class Client(NotebookClient):
            async def async_start_new_kernel(client, **options):
                self._before_kernel()
                await super().async_start_new_kernel(**options)
                self._on_kernel(client.km.provisioner.process)

            async def _async_handle_timeout(client, timeout, cell=None):
                """Return the reply of the interrupted cell; raise if the run ends with it, or if no reply comes."""
                if not (allow_errors and cell):
                    return await super()._async_handle_timeout(timeout, cell)
                self.overtime.append(self.at)
                await client.km.interrupt_kernel()
                try:
                    return await client.kc.shell_channel.get_msg(timeout=GRACE_SECONDS)
                except Empty:
                    raise CellTimeoutError.error_from_timeout_and_cell("no answer", timeout, cell) from None

            def output(client, outs, msg, display_id, cell_index):
                hooked = client.output_hook_stack[msg["parent_header"].get("msg_id")]
                if msg["msg_type"] == "stream" and not hooked:
                    content = msg["content"]
                    content["text"] = self.allowance.take(outs, content["text"])
                    if not content["text"]:
                        return None
                return super().output(outs, msg, display_id, cell_index)

        return Client(
            self.notebook,
            log=_quiet(),
            kernel_name="python3",
            timeout=max(1, round(self.limits.cell_seconds)),
            allow_errors=allow_errors,
            coalesce_streams=False,  # Allowance does it: nbclient's way hangs on a long line
            startup_timeout=STARTUP_SECONDS,
            iopub_timeout=OUTPUT_SECONDS,
            record_timing=False,
            store_widget_state=False,
            shutdown_kernel="immediate",
            on_cell_start=self._on_cell_start,
            on_cell_executed=self._on_cell_executed,
        )

    def _before_kernel(self) -> None:
        # no signals on Windows and outside the main thread
        with contextlib.suppress(RuntimeError, ValueError):
            # nbclient's own handlers close the kernel silently; we would go on to the next notebook
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, self._on_stop, KeyboardInterrupt)
            loop.add_signal_handler(signal.SIGTERM, self._on_stop, Terminated)

    def _on_kernel(self, process) -> None:
        self.process = process
        self.watch = Watch(process.pid, self.limits.ram_bytes, self.limits.seconds, self.mark)
        self.watch.start()
        if self.stopped_by:
            kill_tree(process.pid, self.mark)

    def _on_stop(self, kind: type[KeyboardInterrupt]) -> None:
        self.stopped_by = kind
        if self.process:
            kill_tree(self.process.pid, self.mark)

    def _on_cell_start(self, cell, cell_index: int) -> None:
        self.at = cell_index
        self.allowance = Allowance()
        if self.progress:
            self.progress(cell_index, len(self.notebook.cells), self.peak_bytes)

    def _on_cell_executed(self, cell, cell_index: int, execute_reply) -> None:
        self._settle_outputs()

    def _settle_outputs(self) -> None:
        """Join what the running cell has printed. A cell that ended the run comes here only at the end."""
        cell = self.notebook.cells[self.at]
        if cell.cell_type == "code":
            cell.outputs = self.allowance.settle(cell.outputs)

    def _stop(self) -> None:
        if self.watch:
            self.watch.stop()
            kill_tree(self.watch.pid, self.mark)

    def _death(self, what: str, stderr) -> str:
        """Say why the kernel is gone; raise KeyboardInterrupt if Ctrl-C or SIGTERM was the reason."""
        if self.stopped_by:
            raise self.stopped_by
        if self.watch:
            self.watch.stop()  # its verdict may still be in the pipe
        if self.watch and self.watch.verdict:
            return self.watch.verdict
        status = self.process.poll() if self.process else None
        if status == -9:  # signal.SIGKILL, a name that Windows does not have
            return (
                "the kernel was killed from outside (signal 9), most often by the system because memory ran "
                "out. Close other programs, or take smaller sizes (--profile ci)."
            )
        stderr.seek(0)
        words = [line.rstrip() for line in stderr if line.strip() and "[IPKernelApp]" not in line][-5:]
        return "\n".join([f"the kernel {what} (exit status {status}).", *words])


def _quiet() -> logging.Logger:
    """Return a log that goes nowhere: what nbclient would log is in the failure that we return."""
    log = logging.getLogger("classroom.publish.nbclient")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log
