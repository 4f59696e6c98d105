"""Cells of the notebooks with their model on the second device, in the order of the notebook: those that make tensors
or mix them, and those that these need."""

from pathlib import Path

import pytest
import torch
from second_device import NAME

from classroom.publish.sources import read_source

SOURCES = Path(__file__).parents[2] / "notebooks" / "src"
CHOICE = '"cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"'
IMPORTS = """
import math
import torch
from classroom import compare, load, predict, show, show_source
from classroom.lectures.memory import experiments, figures
from classroom.models import task
from classroom.models.finetune import batches
data = batches(load("tiny", device="cpu")[1], task.pairs("train", 4), 2)
"""
# every operation of the device costs 0.1 ms
SMALLER = {"conversations(32": "conversations(8", "random_batch(8, 96": "random_batch(2, 48"}
CELLS = {  # a cell is named by words that are in it and in no cell before
    "00_start": ("PROFILE =", "device =", "model, tokenizer = load(", "def reply("),
    "02_amp": (
        "PROFILE =", "device =", "survived = predict", "where = {", "by_weight", "dead = predict", "dead.reveal",
        "gradient_histogram", "by_layer(", "unscale_and_check",
    ),
    "03_memory": (
        "PROFILE =", "device =", "guess = predict", "guess.reveal", "saved_tensors(model)", "micro, both = ",
        "off = predict", "off.reveal", "whole_loss, whole", "import Recompute", "OneBlock(",
    ),
    "04_throughput": (
        "PROFILE =", "device =", "padding = predict", "import experiments", "import meter", "import packing",
        "short = [", "batch = packing.collate_packed(", "contaminated = predict", "def loss_and_gradient", "plain = {",
        "def logits", "waits = predict", "def asking", "def reading_once", "model.set_attn_implementation",
        "import flops", "shape = flops.Shape.of",
    ),
}  # fmt: skip


def cells_of(notebook):
    """The source of the cells that are named, with the second device as the notebook's."""
    cells = [c.source for c in read_source(SOURCES / f"{notebook}.py").cells if c.cell_type == "code"]
    assert any(CHOICE in cell for cell in cells)
    for words in CELLS[notebook]:
        cell = next(cell for cell in cells if words in cell)
        for there, here in {CHOICE: repr(NAME), **SMALLER}.items():
            cell = cell.replace(there, here)
        yield cell


@pytest.mark.parametrize("notebook", CELLS)
def test_the_cells_run_with_their_model_on_the_device(notebook, capsys):
    threads, names = torch.get_num_threads(), {}
    exec(IMPORTS, names)
    for cell in cells_of(notebook):
        exec(cell, names)
    torch.set_num_threads(threads)
    assert names["model"].device.type == names["device"] == NAME
    assert names["model"].dtype == torch.float32
