"""One kernel, from its start to its end, whatever happens in between.

nbclient runs the cells. This adds what it leaves open: who watches memory and time, why a kernel died, and
what Ctrl-C means.
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
from dataclasses import dataclass
from pathlib import Path

from coursekit.publish.watch import GB, Watch, kill_tree

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Limits:
    """What one notebook may take. Memory counts the kernel and everything it starts."""

    ram_bytes: float = 4 * GB
    cell_seconds: float = 300
    seconds: float = 1200


class Session:
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


def _quiet() -> logging.Logger:
    """A log that goes nowhere: what nbclient would say in it is in the failure that we return."""
    log = logging.getLogger("coursekit.publish.nbclient")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log
