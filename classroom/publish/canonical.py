"""The one way in which a notebook is written to disk, so that two builds give the same bytes.

What changes from run to run is taken out: papermill's and the clock's metadata, versions, random cell ids,
the model ids of widgets (a widget's static fallback stays). Ids come from what a cell says. A cell tagged
`volatile` shows what only holds for the machine it runs on (its name, its seconds): the committed notebook
says so in its place. What cannot be committed is refused: a path of the machine that built it, an address
in memory, an error that was not meant.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

EXTRA_KEYS = (
    "metadata.papermill",
    "metadata.widgets",
    "metadata.jupytext",
    "metadata.language_info.version",
    "cell.metadata.papermill",
    "cell.metadata.execution",
)
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
VOLATILE_TAG = "volatile"
VOLATILE_TEXT = "Depends on the machine: run the cell to see yours."
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")


def canonical_text(notebook) -> str:
    """The notebook's canonical JSON. The notebook given is left as it is; canonical again changes nothing."""
    import copy

    import nbformat
    from nbstripout import strip_output

    notebook = copy.deepcopy(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=list(EXTRA_KEYS))
    for cell in notebook.cells:
        _clean(cell)
    set_ids(notebook)
    nbformat.validate(notebook)
    return nbformat.writes(notebook, indent=1, sort_keys=True, ensure_ascii=False).rstrip("\n") + "\n"


def _clean(cell) -> None:
    if not cell.metadata.get("tags", True):
        del cell.metadata["tags"]
    if cell.cell_type != "code":
        return
    for output in cell.outputs:
        if len(output.get("data", {})) > 1:
            output["data"].pop(WIDGET_VIEW, None)
    if VOLATILE_TAG in cell.metadata.get("tags", []) and cell.outputs:
        cell.outputs = [_volatile_output()]


def _volatile_output():
    from nbformat.v4 import new_output

    return new_output("display_data", {"text/plain": VOLATILE_TEXT, "text/markdown": f"*{VOLATILE_TEXT}*"})


def set_ids(notebook) -> None:
    """Ids of twelve hex digits from a cell's kind and source; one that says the same again gets a number."""
    seen = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        cell["id"] = digest if digest not in seen else f"{digest}-{seen[digest]}"
        seen[digest] += 1


def refusals(notebook) -> list[str]:
    """Why this executed notebook cannot be committed, one sentence for each cell concerned; [] if it can."""
    found = []
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        if VOLATILE_TAG in cell.metadata.get("tags", []):
            continue
        text = "\n".join(_texts(cell))
        if path := next((p for p in _machine_paths() if p in text), None):
            found.append(
                f"cell {number} shows a path of this machine ({path}); print a name, or tag it `volatile`."
            )
        if address := ADDRESS.search(text):
            found.append(f"cell {number} shows an address in memory ({address[0]}), different in each run.")
    return found


def _texts(cell):
    for output in cell.outputs:
        yield from (str(output.get(key, "")) for key in ("text", "evalue", "traceback"))
        yield from (
            str(content)
            for mime, content in output.get("data", {}).items()
            if not mime.startswith("image/png")
        )


def _machine_paths() -> list[str]:
    # A home of "/" would be found in everything.
    return [path for path in map(str, (Path(__file__).parents[2], sys.prefix, Path.home())) if len(path) > 1]
