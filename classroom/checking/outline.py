"""Name, title and minutes of a file's exercises, read without running it: most exercises load torch."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outline:
    """What an exercise is called, for the function and for the reader, and how long it takes."""

    name: str
    title: str
    minutes: int


def outlines(path: Path) -> list[Outline]:
    """The exercises declared in a file, `Exercise("name", "title", minutes=5, ...)`, in their order.

    Without the file there are none. Raises ValueError if name, title or minutes is not a literal text or number.
    """
    if not path.is_file():
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [_outline(call) for call in calls if getattr(call.func, "id", None) == "Exercise"]


def _outline(call: ast.Call) -> Outline:
    given = dict(zip(("name", "title", "minutes"), call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords}
    return Outline(*(ast.literal_eval(given[name]) for name in ("name", "title", "minutes")))
