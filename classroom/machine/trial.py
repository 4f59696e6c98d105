"""Try each package in a Python of its own: one that is installed and broken can end the whole program.

    trials = start(("torch", "bitsandbytes"))
    trials.results()

`python -m classroom.machine.trial torch bitsandbytes` is the program that is started: it imports one package after
the other, lets some of them compute, and prints a line before and after each.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

STARTED, WORKS, FAILED = "trial-started", "trial-works", "trial-failed"
OK = "works"


@dataclass(frozen=True)
class Trials:
    """A running trial; `results()` waits for it."""

    names: tuple[str, ...]
    process: subprocess.Popen | None

    def results(self, seconds: float = 180) -> dict[str, str]:
        """{package: "works", or in one line why not}; a package that was not reached in time is left out."""
        if self.process is None:
            return {}
        try:
            output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return read(self.process.communicate()[0], None)
        finally:
            self.process.kill()  # does nothing to one that has ended; Ctrl-C leaves none behind
        return read(output, self.process.returncode)


def start(names: tuple[str, ...]) -> Trials:
    """Begin to try these packages, which must be installed; does not wait."""
    # as in the notebook: the packages that it sees, and no model hub
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "classroom.machine.trial", *names]
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
        )
    except OSError:  # no second process may be started here: nothing is known, which is not a failure
        process = None
    return Trials(names, process)


def read(output: str, status: int | None) -> dict[str, str]:
    """The lines of a trial; `status` is its exit status, None if it was stopped because it took too long."""
    results, unfinished = {}, None
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        name, _, reason = rest.partition(" ")
        if word == STARTED:
            unfinished = name
        elif word in (WORKS, FAILED):
            results[name] = OK if word == WORKS else reason
            unfinished = None
    if unfinished and status:
        results[unfinished] = f"it ends the whole Python program ({_death(status)})"
    return results


def _death(status: int) -> str:
    """How a process ended, from its exit status: on POSIX minus the number of a signal."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"


def import_and_use(name: str) -> None:
    """Import the package and do what shows that its compiled part fits. Raises whatever it raises."""
    importlib.import_module(name)
    if name in USES:
        USES[name]()


def multiply() -> None:
    import torch

    ones = torch.ones(8, 8, device=_device())
    expect(float((ones @ ones).sum()), 512)


def quantize() -> None:
    """Four bits and back, where the course does it: a build for another CUDA fails here, not at the import."""
    import torch
    from bitsandbytes import functional

    codes, state = functional.quantize_4bit(torch.ones(64, device=_device()), quant_type="nf4")
    expect(float(functional.dequantize_4bit(codes, state).sum()), 64)


def load_classes() -> None:
    """transformers imports the files of its models, and what they need, only when a class is asked for."""
    from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401


def expect(got: float, wanted: float) -> None:
    if got != wanted:
        raise ValueError(f"it computes {got:g} where {wanted:g} is right")


def adapt() -> None:
    """Give a layer an adapter: only then peft looks whether it likes the libraries that are installed beside it."""
    import torch
    from peft import LoraConfig, get_peft_model

    get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), LoraConfig(target_modules=["0"]))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


USES = {"torch": multiply, "bitsandbytes": quantize, "transformers": load_classes, "peft": adapt}


def main(names) -> None:
    for name in names:
        print(STARTED, name, flush=True)
        try:
            with redirect_stdout(sys.stderr):
                import_and_use(name)
        # whatever a broken package raises, the others are still tried
        except (Exception, SystemExit) as error:
            print(FAILED, name, one_line(error), flush=True)
        else:
            print(WORKS, name, flush=True)


def one_line(error: BaseException) -> str:
    """The last line of the first cause: libraries wrap errors into others, and put the matter after a preface."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:300].rstrip('.')}" if lines else type(error).__name__


if __name__ == "__main__":
    main(sys.argv[1:])
