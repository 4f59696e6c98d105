"""No notebook, deck or lecture module leaves the device of its model to the machine: a GPU would take it, in BF16."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLACES = ("notebooks/src/*.py", "solutions/src/*.py", "slides/*.md", "classroom/lectures/*/*.py")
FILES = sorted(path for place in PLACES for path in ROOT.glob(place))
LOADERS = {"load", "load_adapter", "trainable"}


def code_of(path):
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".py" else "\n".join(re.findall(r"(?ms)^```python\n(.*?)^```", text))


def unplaced(code):
    """Return the calls that load a model and do not name its device."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    loads = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in LOADERS]
    return [
        ast.unparse(call)
        for call in loads
        if not {"device", None} & {keyword.arg for keyword in call.keywords}  # None: **where
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_model_names_its_device(path):
    assert unplaced(code_of(path)) == []


def test_a_load_without_a_device_is_found():
    assert unplaced("load(MODEL)\nload(MODEL, device=device)\nload(MODEL, **where)") == ["load(MODEL)"]


def test_models_are_loaded_in_many_places():
    """Otherwise the test above would look at nothing."""
    found = {path.relative_to(ROOT).as_posix() for path in FILES if re.search(r"\bload\(", code_of(path))}
    lectures = {f"classroom/lectures/memory/{part}.py" for part in ("benchmark", "claims", "experiments")}
    assert found >= {"notebooks/src/03_memory.py", "slides/03_memory.md", *lectures}
