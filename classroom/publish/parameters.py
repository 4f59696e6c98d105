"""Parameters of a notebook: which it has, values from the command line, a copy that uses them."""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Collection, Mapping

from classroom.publish.sources import KERNELSPEC, CourseError

PROFILES = ("ci", "cpu", "gpu")


def parse_value(text: str):
    """A Python literal (3, 1e-4, True, None, [1, 2]) as that value; anything else as the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parameters_of(notebook) -> dict[str, object]:
    """{name: default} of the cell tagged `parameters`, None for a default that is no literal."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    found = {}
    for node in ast.parse(cells[0].source).body if cells else []:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = _literal(node.value)
    return found


def _literal(node):
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def with_parameters(notebook, parameters: Mapping):
    """A copy of the notebook whose parameters have these values; a plain copy if there are none to set.

    Raises CourseError for a name that the notebook's `parameters` cell does not assign.
    """
    notebook = copy.deepcopy(notebook)
    if not parameters:
        return notebook
    refuse_unknown(parameters, parameters_of(notebook))
    from papermill.parameterize import parameterize_notebook

    # papermill reads these without asking
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    notebook.metadata.setdefault("papermill", {})
    notebook.metadata.setdefault("kernelspec", KERNELSPEC)
    return parameterize_notebook(notebook, dict(parameters))


def refuse_unknown(parameters: Mapping, known: Collection[str]) -> None:
    """Raises CourseError for the first parameter that is not among the known ones."""
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known)) or 'none'}."
            raise CourseError(f"no notebook here has a parameter {name!r}. {hint}")
