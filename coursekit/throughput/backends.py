"""Write a Tracker's records to TensorBoard, Weights & Biases (offline) or Aim, each behind the same two methods.

    Tracker(Jsonl("run.jsonl"), TensorBoard("runs/1"), WandB("course", folder="runs"), Aim("runs"))

A backend's library is imported when the backend is made; if it is not installed, the error says how to install it.
Weights & Biases runs offline: it writes to a folder and needs no account; `wandb sync` uploads it later. TensorBoard
and Aim keep the step of every number; W&B wants steps that do not decrease, and drops others with a warning of its own.
Left out: reading back what W&B and Aim wrote, which their own programs do.

Sources: torch.utils.tensorboard.SummaryWriter; wandb.init and Run.log; aim.Run.track: their reference pages.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from coursekit.throughput.tracking import Record


def needed(module: str, package: str):
    """Import a module; raises ImportError that says which package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this backend needs {package}, which is not installed: pip install {package}. Jsonl needs nothing."
        ) from error


class TensorBoard:
    """Event files in a folder; `tensorboard --logdir folder` shows them.

    Numbers are written as float64: in float32, TensorBoard's default, 0.1 would be read back as 0.10000000149.
    """

    def __init__(self, folder: str | Path):
        needed("tensorboard", "tensorboard")
        self.writer = needed("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

    def write(self, record: Record) -> None:
        for name, value in record.values.items():
            if record.kind == "numbers":
                self.writer.add_scalar(name, float(value), record.step, new_style=True, double_precision=True)
            elif record.kind == "text":
                self.writer.add_text(name, value)
            else:
                self.writer.add_text(f"config/{name}", json.dumps(value))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def read_tensorboard(folder: str | Path) -> list[Record]:
    """The records in a folder of event files: the config, texts, then numbers by step. Numbers are floats."""
    accumulator = needed("tensorboard.backend.event_processing.event_accumulator", "tensorboard")
    tensor_util = importlib.import_module("tensorboard.util.tensor_util")
    # 0: no limit on the number of events. By default TensorBoard keeps a sample of them.
    events = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.TENSORS: 0}).Reload()
    config, texts, steps = {}, [], {}
    for tag in events.Tags()["tensors"]:
        for event in events.Tensors(tag):
            value = tensor_util.make_ndarray(event.tensor_proto).item()
            name = tag.removesuffix("/text_summary")
            if name == tag:  # a number; texts and settings have the suffix
                steps.setdefault(event.step, {})[tag] = value
            elif name.startswith("config/"):
                config[name.removeprefix("config/")] = json.loads(value)
            else:
                texts.append(Record("text", None, {name: value.decode()}))
    numbers = [Record("numbers", step, steps[step]) for step in sorted(steps)]
    return [*([Record("config", None, config)] if config else []), *texts, *numbers]


class WandB:
    """A run of Weights & Biases in a folder of this machine; mode="online" sends it to their server instead."""

    def __init__(
        self, project: str, folder: str | Path = ".", name: str | None = None, mode: str = "offline"
    ):
        self.run = needed("wandb", "wandb").init(project=project, name=name, dir=str(folder), mode=mode)

    def write(self, record: Record) -> None:
        if record.kind == "numbers":
            self.run.log(dict(record.values), step=record.step)
        elif record.kind == "config":
            self.run.config.update(record.values)
        else:
            self.run.summary.update(record.values)

    def close(self) -> None:
        self.run.finish()


class Aim:
    """A run in the folder's .aim repository; `aim up` shows it. Linux and macOS only."""

    def __init__(self, folder: str | Path = ".", experiment: str = "coursekit"):
        self.aim = needed("aim", "aim")
        self.run = self.aim.Run(repo=str(folder), experiment=experiment)

    def write(self, record: Record) -> None:
        for name, value in record.values.items():
            if record.kind == "numbers":
                self.run.track(value, name=name, step=record.step)
            elif record.kind == "text":
                self.run.track(self.aim.Text(value), name=name)
            else:
                self.run[name] = value

    def close(self) -> None:
        self.run.close()
