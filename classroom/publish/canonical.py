"""The committed form of a notebook: how it is written, and whether it still shows what its source gives.

Two builds on one machine give the same bytes. What changes from run to run is removed: papermill's metadata and the
clock's, versions, random cell ids, the model ids of widgets (a widget's static fallback stays). Ids follow from what a
cell says. A cell tagged `volatile` shows what holds only for the machine it runs on (its name, its seconds); the
committed notebook says so instead. Some outputs cannot be committed and are refused: a path of the machine that built
the notebook, an address in memory, an error that was not meant.

`differences` compares cells, tags and the kinds of output exactly. In what the outputs say, whole numbers and words are
exact, and numbers with a decimal point may differ by one part in a thousand: the last digits of a sum depend on the
processor, and a reader on another machine should not see a red light for them. Pixels and cells tagged `volatile` are
not compared. Of a cell tagged `drifts` only the kinds of output are compared: training amplifies the last digits, so
two processors draw curves that agree to the eye and not to the digit. What must hold there, the cell asserts. A cell
whose number the prose quotes is tagged `nbval-check-output`: its words and numbers are exact, seconds and rates apart.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections import Counter
from itertools import zip_longest
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
DRIFTS_TAG = "drifts"
RELATIVE_TOLERANCE = 1e-3
DRAWING_TOLERANCE = 0.01  # points
NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
PIXELS = re.compile(r"(data:image/(?:png|jpeg);base64,)[A-Za-z0-9+/=\s]+")
QUOTED_TAG = "nbval-check-output"
# What may differ between two runs of a quoted cell, and what stands for it in the comparison.
SANITIZERS = (
    (re.compile(r"\b\d+(\.\d+)? ?(ns|us|µs|ms|s|min)\b"), "SECONDS"),
    (re.compile(r"\b\d+(\.\d+)? ?[kMGT]?(B|FLOP|values|tokens)/s\b"), "RATE"),
    (re.compile(r"0x[0-9a-f]{6,}"), "ADDRESS"),
)


def canonical_text(notebook) -> str:
    """Return the notebook's canonical JSON. The notebook itself is not changed; canonical twice is canonical once."""
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
    """Set ids of twelve hex digits from a cell's kind and source; a repeated cell gets a number as well."""
    seen = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        cell["id"] = digest if digest not in seen else f"{digest}-{seen[digest]}"
        seen[digest] += 1


def refusals(notebook) -> list[str]:
    """Say why this executed notebook cannot be committed, one sentence per fault; [] if it can."""
    found = []
    code_cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code_cells, start=1):
        if VOLATILE_TAG in cell.metadata.get("tags", []):
            continue
        text = "\n".join(_texts(cell))
        if path := next((p for p in _machine_paths() if p in text), None):
            remedy = "print a name, or tag it `volatile`"
            found.append(f"cell {number} shows a path of this machine ({path}); {remedy}.")
        if address := ADDRESS.search(text):
            found.append(f"cell {number} shows an address in memory ({address[0]}), which every run changes.")
    return found


def _texts(cell):
    for output in cell.outputs:
        yield from (str(output.get(key, "")) for key in ("text", "evalue", "traceback"))
        for mime, content in output.get("data", {}).items():
            if not mime.startswith("image/png"):
                yield str(content)


def _machine_paths() -> list[str]:
    paths = map(str, (Path(__file__).parents[2], sys.prefix, Path.home()))
    return [path for path in paths if len(path) > 1]  # a home of "/" would be found in everything


# ---------------------------------------------------------------- differences


def text_differences(fresh, committed) -> list[str]:
    """Say how the committed cells differ from the source's, outputs aside: the first difference only."""
    if len(fresh.cells) != len(committed.cells):
        return [f"the source has {len(fresh.cells)} cells, the committed notebook {len(committed.cells)}"]
    for number, (new, old) in enumerate(zip(fresh.cells, committed.cells, strict=True), start=1):
        if written(new) != written(old):
            return [f"cell {number} ({new.source.strip().splitlines()[:1]}) is written differently"]
    return []


def written(cell) -> tuple:
    """Return what the author wrote of a cell."""
    return cell.cell_type, cell.source, {key: value for key, value in cell.metadata.items() if value}


def differences(fresh, committed) -> list[str]:
    """Say how a fresh execution differs from the committed notebook; [] if the committed one still holds."""
    if found := text_differences(fresh, committed):
        return found
    for number, (new, old) in enumerate(zip(fresh.cells, committed.cells, strict=True), start=1):
        if difference := output_difference(new, old):
            found.append(f"cell {number}: {difference}")
    return found


def output_difference(fresh, committed) -> str | None:
    tags = fresh.metadata.get("tags", [])
    if fresh.cell_type != "code" or VOLATILE_TAG in tags:
        return None
    new, old = list(parts(fresh)), list(parts(committed))
    if [kind for kind, _ in new] != [kind for kind, _ in old]:
        return f"committed outputs: {[kind for kind, _ in old]}, now: {[kind for kind, _ in new]}"
    if DRIFTS_TAG in tags:
        return None
    for (kind, ours), (_, theirs) in zip(new, old, strict=True):
        if difference := first_difference(ours, theirs, drawing=kind == "image/svg+xml"):
            return f"{kind}: committed {difference[1]!r}, now {difference[0]!r}"
    return None


def parts(cell):
    """Yield (kind, text) of every output, one per mime type; "" for pixels."""
    for output in cell.outputs:
        if "text" in output:
            yield output.name, output.text
        for mime, content in sorted(output.get("data", {}).items()):
            yield mime, "" if mime in ("image/png", "image/jpeg") else str(content)
        if output.output_type == "error":
            yield "error", f"{output.ename}: {output.evalue}"


def first_difference(ours: str, theirs: str, *, drawing: bool = False) -> tuple[str, str] | None:
    """Return the first number, or text between numbers, that differs: (ours, theirs); None if there is none."""
    pairs = zip_longest(tokens(ours), tokens(theirs), fillvalue="")
    return next((pair for pair in pairs if not same(*pair, drawing=drawing)), None)


def tokens(text: str) -> list[str]:
    """Split the text into pieces that alternate: text, number, text."""
    return NUMBER.split(PIXELS.sub(r"\1", text))


def same(ours: str, theirs: str, *, drawing: bool = False) -> bool:
    if ours == theirs:
        return True
    if not (NUMBER.fullmatch(ours) and NUMBER.fullmatch(theirs)):
        return False
    decimal = ["." in token or "e" in token for token in (ours, theirs)]
    comparable = any(decimal) if drawing else all(decimal)  # a coordinate may come out as 100 or 99.9999
    slack = DRAWING_TOLERANCE if drawing else 0.0  # none in a text: 5.96e-08 is not 0.0
    return comparable and math.isclose(float(ours), float(theirs), rel_tol=RELATIVE_TOLERANCE, abs_tol=slack)


def quoted_differences(fresh, committed) -> list[str]:
    """Return the first lines of the quoted cells whose words or numbers are not exactly those that are committed."""
    return [
        new.source.splitlines()[0]
        for new, old in zip(fresh.cells, committed.cells, strict=True)
        if QUOTED_TAG in new.metadata.get("tags", []) and quoted_texts(new) != quoted_texts(old)
    ]


def quoted_texts(cell) -> list[str]:
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [sanitized(text) for text in texts]


def sanitized(text: str) -> str:
    for pattern, replacement in SANITIZERS:
        text = pattern.sub(replacement, text)
    return text
