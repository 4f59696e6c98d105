"""The training cell of the Start page, under the stop button, shows a kind message and loses nothing.

Its own cells run in a kernel of their own, which gets the interrupt that JupyterLab's button sends.
"""

import os
import sys
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from classroom.publish.execute import REPRODUCIBLE
from classroom.publish.sources import read_source

ROOT = Path(__file__).parents[3]
SETTINGS = """
import torch
from classroom import LossPlot, load
MODEL, PROFILE, SEED, STEPS = "tiny", "ci", 0, 12
"""
BEFORE = ("torch.manual_seed", "model, tokenizer = load(", "def reply(")
PATIENCE_SECONDS = 900  # a net: on a busy machine one cell may take minutes
ADAPT, PREPARE, TRAIN = "trainable(", "run = training(", "plot = LossPlot("


@pytest.fixture(scope="module")
def cell():
    """cell("words") is the source of the first code cell of the Start page that has the words in it."""
    cells = read_source(ROOT / "notebooks" / "src" / "00_start.py").cells
    sources = [c.source for c in cells if c.cell_type == "code"]
    return lambda words: next(source for source in sources if words in source)


@pytest.fixture(scope="module")
def run():
    """run(source, stop=False) executes it as JupyterLab would: (status, everything that was shown).

    With stop, the kernel is interrupted as soon as something is displayed.
    """
    manager = KernelManager(kernel_name="python3")
    manager.kernel_spec.argv[0] = sys.executable  # this Python, whichever the machine's kernel is
    manager.start_kernel(cwd=ROOT / "notebooks", env={**os.environ, **REPRODUCIBLE})
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE_SECONDS)

    def execute(source, stop=False):
        shown = []

        def hear(message):
            content = message["content"]
            text = content.get("text") or content.get("data", {}).get("text/plain")
            shown.extend([text] if text else [])
            if stop and message["msg_type"] == "display_data":
                manager.interrupt_kernel()

        reply = client.execute_interactive(source, timeout=PATIENCE_SECONDS, output_hook=hear)
        return reply["content"]["status"], shown

    yield execute
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_stopped_and_continued_is_the_run_that_was_not_stopped(cell, run):
    for source in (SETTINGS, *map(cell, BEFORE)):
        assert run(source)[0] == "ok"

    run(cell(ADAPT)), run(cell(PREPARE))
    status, shown = run(cell(TRAIN), stop=True)
    assert status == "ok" and shown[-1].startswith("Stopped after step ")
    assert "of 12. Run this cell again to go on." in shown[-1]
    status, shown = run(cell(TRAIN))
    assert status == "ok" and shown[-1].split()[1:3] == ["steps", "in"]
    run("stopped = [(step.number, step.loss) for step in run.history], diary")

    run(cell(ADAPT)), run(cell(PREPARE)), run(cell(TRAIN))
    run("whole = [(step.number, step.loss) for step in run.history], diary")
    assert run("print(len(whole[0]), whole == stopped)")[1] == ["12 True\n"]
