"""Log a run through one small interface; its simplest backend writes one line of JSON per record.

    with Tracker(Jsonl("run.jsonl"), TensorBoard("runs/1")) as tracker:
        tracker.config(rate=1e-3, batch=16)
        tracker.log(1, loss=2.3, tokens_per_second=5e4)
        tracker.text("remark", "restarted with a lower rate")

    >>> encode(Record("numbers", 1, {"loss": math.nan}))
    '{"kind": "numbers", "step": 1, "values": {"loss": "nan"}}'

Every backend gets the same calls (`backends` has TensorBoard, Weights & Biases and Aim). JSONL is the one to keep: it
needs nothing, each line is written before `log` returns, it can be continued, and a crash costs the last line at most.
JSON has no NaN and no infinity, the records that matter most; here they are the texts "nan", "inf", "-inf". Left out:
pictures, system metrics, comparing runs.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

KINDS = ("numbers", "text", "config")


@dataclass(frozen=True)
class Record:
    """What one call logged."""

    kind: str  # one of KINDS
    step: int | None  # of numbers, else None
    values: dict  # by name

    def __eq__(self, other) -> bool:
        """NaN equals NaN here: a record that was read back is the record that was written."""
        return isinstance(other, Record) and _key(self) == _key(other)

    __hash__ = None


def _key(record: Record) -> tuple:
    values = {k: repr(v) if isinstance(v, float) else v for k, v in record.values.items()}
    return record.kind, record.step, values


class Tracker:
    """Sends every record to all backends, in their order. As a context manager it closes them, also after an error."""

    def __init__(self, *backends):
        self.backends = backends

    def log(self, step: int, /, **numbers: float) -> None:
        """Log numbers of one step. A tensor of one element is asked for its value, which waits for the device.

        Raises TypeError for a value that is not a number; nothing is logged then.
        """
        values = {name: number(name, x) for name, x in numbers.items()}
        self._send(Record("numbers", int(step), values))

    def text(self, name: str, value: str) -> None:
        self._send(Record("text", None, {name: str(value)}))

    def config(self, /, **values) -> None:
        """Log settings of the run: anything that JSON can hold.

        Raises TypeError for what it cannot hold; nothing is logged then.
        """
        try:
            json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"a setting must be text, a finite number, a list or a dict: {error}.") from error
        self._send(Record("config", None, values))

    def _send(self, record: Record) -> None:
        for backend in self.backends:
            backend.write(record)

    def close(self) -> None:
        """Close all backends. If one fails the others are still closed, then the first error is raised."""
        errors = []
        for backend in self.backends:
            try:
                backend.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *error) -> None:
        self.close()


def number(name: str, value) -> int | float:
    """Python's int or float, from any number or tensor of one element. Raises TypeError for anything else."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):  # True is an int for Python
        raise TypeError(
            f"{name} must be a number, got {type(value).__name__} {value!r}. Use text() for words, config() for "
            "settings."
        )
    return value


class Jsonl:
    """A file of one record per line; an existing file is continued.

    A last line that a crash cut off is moved to `path` + ".damaged" when the file is opened, so that the lines after it
    are whole again. Raises ValueError if an earlier line is damaged: then the file is not such a log.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        set_damage_aside(self.path)
        self.file = self.path.open("a", encoding="utf-8", newline="\n")

    def write(self, record: Record) -> None:
        self.file.write(encode(record) + "\n")
        self.file.flush()  # a crash of this program then costs nothing

    def close(self) -> None:
        self.file.close()


def encode(record: Record) -> str:
    """One line: {"kind": "numbers", "step": 1, "values": {"loss": "nan"}}."""
    values = record.values
    if record.kind == "numbers":
        values = {name: x if math.isfinite(x) else str(x) for name, x in values.items()}
    return json.dumps({"kind": record.kind, "step": record.step, "values": values}, allow_nan=False)


def decode(line: str) -> Record:
    """The record of a line. Raises ValueError if the line is not a record."""
    found = json.loads(line)
    if not _is_record(found):
        raise ValueError(f"expected an object with kind, step and values; got {line[:60]!r}.")
    values = found["values"]
    if found["kind"] == "numbers":
        values = {name: float(x) if isinstance(x, str) else x for name, x in values.items()}
    return Record(found["kind"], found["step"], values)


def _is_record(found) -> bool:
    if not isinstance(found, dict) or set(found) != {"kind", "step", "values"}:
        return False
    return found["kind"] in KINDS and type(found["values"]) is dict


def read(path: str | Path) -> list[Record]:
    """All whole records; a last line that a crash cut off is left out.

    Raises ValueError that names the line if another one is damaged; FileNotFoundError as open().
    """
    return _parse(Path(path))[0]


def set_damage_aside(path: Path) -> bytes:
    """Move a damaged last line to `path` + ".damaged"; returns it, b"" if the file is whole or does not exist."""
    if not path.exists():
        return b""
    _, damage = _parse(path)
    if damage:
        with Path(f"{path}.damaged").open("ab") as aside:
            aside.write(damage + b"\n")
        os.truncate(path, path.stat().st_size - len(damage))  # only after the damaged bytes are saved
    return damage


def _parse(path: Path) -> tuple[list[Record], bytes]:
    """(records, the bytes of a damaged end). A line without its newline was not finished, even if it parses."""
    lines = path.read_bytes().splitlines(keepends=True)
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("no newline at the end")
            records.append(decode(line.decode("utf-8")))
        except ValueError as error:
            if number == len(lines):
                return records, line
            raise ValueError(
                f"{path}, line {number} is damaged: {error} It is not the last line, so the file was not cut off by a "
                "crash; repair or remove it."
            ) from error
    return records, b""
