"""Run one notebook headless and tell what happened: seconds, peak memory, and where and why it failed.

papermill sets the parameters; nbclient, which papermill itself runs on, runs the cells. Going to nbclient
directly keeps three things that papermill's own loop takes away: cells tagged `raises-exception` may fail,
the kernel's process is known (so that `watch` can hold it to a limit), and `coursekit check` works for
students who have JupyterLab but not papermill. Every run gets a fresh kernel and ends with none, whatever
happens in between.
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
from dataclasses import dataclass
from pathlib import Path

from coursekit.publish.watch import GB, Watch, kill_tree

# The same number of threads and the same hash seed everywhere: torch splits a sum by threads, so the last
# digits of a committed output depend on it.
REPRODUCIBLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Limits:
    """What one notebook may take. Memory counts the kernel and everything it starts."""

    ram_bytes: float = 4 * GB
    cell_seconds: float = 300
    seconds: float = 1200


@dataclass(frozen=True)
class Failure:
    """Where a run ended: the cell's number among the code cells (from 1), its source, and why in words."""

    cell: int
    source: str
    reason: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One execution of one notebook. `notebook` holds the outputs up to the failure, if there is one."""

    label: str
    notebook: object
    code_cells: int
    seconds: float
    peak_bytes: int
    failure: Failure | None = None

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
    """Execute a copy of `notebook` in a fresh kernel, in the folder `cwd`, `env` added to the environment.

    `progress(cell, cells, bytes)` is called before each cell. With `allow_errors` the run goes on after a
    failing cell, and only a dead kernel or a limit is a failure. Raises CourseError for a parameter that
    the notebook does not have.
    """
    from coursekit.publish.parameters import with_parameters

    limits = limits or Limits()
    notebook = with_parameters(notebook, parameters or {})
    session = _Session(notebook, limits, progress)
    started = time.monotonic()
    reason = session.run(cwd, dict(env or {}), allow_errors)
    seconds = time.monotonic() - started
    failure = session.failure(reason) if reason else None
    return Run(label, notebook, session.code_cells, seconds, session.peak_bytes, failure)


class _Session:
    """One kernel, from start to end. `run` returns why it ended early, or None."""

    def __init__(self, notebook, limits: Limits, progress):
        self.notebook, self.limits, self.progress = notebook, limits, progress
        self.code_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
        self.at = 0  # index of the cell that runs
        self.watch: Watch | None = None
        self.process = None
        self.interrupted = False

    @property
    def peak_bytes(self) -> int:
        return self.watch.peak_bytes if self.watch else 0

    def run(self, cwd: Path, env: dict, allow_errors: bool) -> str | None:
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

        client = self._client(allow_errors)
        with tempfile.TemporaryFile("w+", errors="replace") as stderr:
            try:
                client.execute(cwd=str(cwd), env={**os.environ, **env}, stderr=stderr)
            except CellExecutionError as error:
                return f"{error.ename}: {ANSI.sub('', error.evalue)}"
            except CellTimeoutError:
                seconds = self.limits.cell_seconds
                return f"this cell ran longer than {seconds:.0f} s. Allow more with --cell-timeout."
            except DeadKernelError:
                return self._death("died while this cell ran", stderr)
            except RuntimeError as error:  # jupyter_client's, while it waits for a kernel to answer
                return self._death(f"did not start: {error}", stderr)
            finally:
                self._stop()
                # nbclient 0.11 leaves this behind if a kernel does not start, and it fails when Python ends
                atexit.unregister(client._cleanup_kernel)
        return None

    def _client(self, allow_errors: bool):
        from nbclient import NotebookClient

        class Client(NotebookClient):
            async def async_start_new_kernel(client, **options):
                self._before_kernel()
                await super().async_start_new_kernel(**options)
                self._on_kernel(client.km.provisioner.process)

        return Client(
            self.notebook,
            log=_quiet(),
            kernel_name="python3",
            timeout=max(1, round(self.limits.cell_seconds)),
            allow_errors=allow_errors,
            coalesce_streams=True,  # how prints are cut into messages depends on the clock
            record_timing=False,
            store_widget_state=False,
            shutdown_kernel="immediate",
            on_cell_start=self._on_cell_start,
        )

    def _before_kernel(self) -> None:
        with contextlib.suppress(
            RuntimeError, ValueError
        ):  # no signals on Windows and outside the main thread
            # nbclient's own handler closes the kernel without a word; we would go on to the next notebook
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._on_ctrl_c)

    def _on_kernel(self, process) -> None:
        self.process = process
        self.watch = Watch(process.pid, self.limits.ram_bytes, self.limits.seconds)
        self.watch.start()
        if self.interrupted:
            kill_tree(process.pid)

    def _on_ctrl_c(self) -> None:
        self.interrupted = True
        if self.process:
            kill_tree(self.process.pid)

    def _on_cell_start(self, cell, cell_index: int) -> None:
        self.at = cell_index
        if self.progress:
            self.progress(cell_index, len(self.notebook.cells), self.peak_bytes)

    def _stop(self) -> None:
        if self.watch:
            self.watch.stop()
            kill_tree(self.watch.pid)

    def _death(self, what: str, stderr) -> str:
        """Why the kernel is gone; raises KeyboardInterrupt if Ctrl-C was the reason."""
        if self.interrupted:
            raise KeyboardInterrupt
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

    def failure(self, reason: str) -> Failure:
        cell = self.notebook.cells[self.at]
        number = sum(c.cell_type == "code" for c in self.notebook.cells[: self.at + 1])
        lines = [line for output in cell.get("outputs", []) for line in output.get("traceback", [])]
        return Failure(number, cell.source, reason, tuple(ANSI.sub("", "\n".join(lines)).splitlines()))


def _quiet() -> logging.Logger:
    """A log that goes nowhere: what nbclient would say in it is in the failure that we return."""
    log = logging.getLogger("coursekit.publish.nbclient")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log
