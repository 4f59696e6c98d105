"""Read a model's config.json with care: a small regular file, JSON, and fields of the right type and range.

>>> Fields({"model_type": "llama", "hidden_size": 4096}).whole("hidden_size")
4096

An error names the wrong field, what was expected and what came, before anything is computed with it. What it leaves
out: what the fields say about the weights (`architecture`).
"""

from __future__ import annotations

import json
import os
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path

from coursekit.units import MB

LARGEST_FILE = 10 * MB  # a config.json has a few kB
MOST_LAYERS = 10_000
LARGEST = 10**9  # of any other number: no tensor of a model has a longer side
SHORT = reprlib.Repr()
SHORT.maxstring = 80


class UnknownModel(ValueError):
    """Raised for an unknown preset, and for a config that the planner cannot read; the message says which and why."""


def read_config(path: Path) -> Mapping:
    """The fields of a config.json. Raises as `read_object`."""
    return read_object(path, "a config.json of a model")


def read_object(path: Path, what: str = "a JSON file with an object") -> Mapping:
    """The fields of a small JSON file; a byte order mark at its start is ignored. `what` names the file in errors.

    Raises UnknownModel if it is not a regular file of at most 10 MB (a pipe would block, /dev/zero never ends), not
    UTF-8, not JSON, or not an object.
    """
    data = _contents(path, what)
    try:
        config = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _refused(path, what, f"byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _refused(path, what, f"it is not JSON ({error.msg}: {where})") from None
    except RecursionError:
        raise _refused(
            path, what, "its brackets are nested too deeply; it is a flat list of fields"
        ) from None
    except ValueError:  # Python refuses to read an integer of more than 4,300 digits
        raise _refused(path, what, "one of its numbers has thousands of digits") from None
    if not isinstance(config, Mapping):
        raise _refused(path, what, f"expected an object {{...}}, it holds {shown(config)}")
    return config


def _contents(path: Path, what: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _refused(path, what, "it is not a regular file; name one, or the folder that holds it")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)  # some systems say that an endless file has 0 bytes
    except OSError as error:
        raise _refused(path, what, error.strerror or str(error)) from None
    if len(data) > LARGEST_FILE:
        raise _refused(path, what, f"it is larger than {LARGEST_FILE // MB} MB; a config has a few kB")
    return data


def _refused(path: Path, what: str, why: str) -> UnknownModel:
    # A name may hold bytes that are not text.
    printable = str(path).encode("utf-8", "backslashreplace").decode()
    return UnknownModel(f"{printable} is not {what}: {why}.")


def shown(value) -> str:
    """Any value in a few words, for errors: cut where it is long, its type where it cannot be printed.

    >>> shown("llama"), shown([[3], None]), shown(list(range(1000)))
    ("'llama'", '[[3], None]', '[0, 1, 2, 3, 4, 5, ...]')
    """
    try:
        return SHORT.repr(value)
    except Exception:  # an integer too long to print, or a value of the user's own whose repr fails
        return f"something of type {type(value).__name__}"


class Fields:
    """The fields of a config, each checked when it is read.

    A field that is missing or null has its default; a field without a default is required. All methods raise
    UnknownModel with the field, what was expected and what came.
    """

    def __init__(self, config: Mapping):
        self.config, self.family = config, config.get("model_type")

    def whole(self, name: str, default: int | None = None, *, at_most: int = LARGEST) -> int:
        """A whole number from 1 to `at_most`; true and false are not numbers."""
        value = self._value(name, default)
        if not _is_whole(value) or not 1 <= value <= at_most:
            raise wrong(name, f"a whole number from 1 to {at_most:,}", value)
        return value

    def share(self, name: str, default: float) -> float:
        """A number from 0 to 1: a probability, or a part of something."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise wrong(name, "a number from 0 to 1", value)  # NaN is in no interval
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise wrong(name, "true or false, without quotes", value)
        return value

    def text(self, name: str, default: str) -> str:
        value = self._value(name, default)
        if not isinstance(value, str) or not value:
            raise wrong(name, "a name in quotes", value)
        return value

    def cap(self, name: str) -> bool:
        """Whether scores are capped: yes for a positive number, no for null; yes also if it is missing."""
        value = self.config.get(name, 1)  # missing: the class has a cap by default
        if value is None:
            return False
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise wrong(name, "a positive number or null", value)
        return True

    def layers_among(self, name: str, layers: int) -> set[int]:
        """Indices of some of the model's layers, from 0; none if the field is missing or null."""
        value = self.config.get(name)
        value = [] if value is None else value
        known = isinstance(value, (list, tuple)) and all(_is_whole(i) and 0 <= i < layers for i in value)
        if not known:
            raise wrong(name, f"a list of layers, each from 0 to {layers - 1:,}", value)
        return set(value)

    def first_of(self, *names: str) -> str:
        """The first of these fields that the config has; the last if it has none."""
        return next((name for name in names if self.config.get(name) is not None), names[-1])

    def _value(self, name: str, default):
        value = self.config.get(name)
        value = default if value is None else value  # null and missing mean the same
        if value is None:
            raise UnknownModel(f"this {self.family} config lacks {name!r}; pass the whole config.json.")
        return value


def wrong(name: str, expected: str, value) -> UnknownModel:
    return UnknownModel(f"{name} must be {expected}; the config says {shown(value)}.")


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
