"""Makes exercise notebooks from solution notebooks, by nbgrader's preprocessors. Nothing here runs a cell.

An author writes plain cells in `solutions/src/NN_word.py`; the metadata that nbgrader wants follows from them:

    def bytes_of(x):                    a cell with a solution region becomes the student's cell, its id the
        ### BEGIN SOLUTION              function's name; the region becomes `# your code here` and `...`
        return x.nbytes
        ### END SOLUTION

    check.bytes_of(bytes_of)            a cell that calls `check.` becomes the check, worth 1 point or what
    ### BEGIN HIDDEN TESTS              a tag says: `points-3`; hidden tests are removed
    ...
    ### END HIDDEN TESTS

A cell tagged `solution-only` is removed. Students need no nbgrader: they get an ordinary notebook.
"""

from __future__ import annotations

import re
from pathlib import Path

from classroom.publish.canonical import canonical_text
from classroom.publish.sources import CourseError, Source, all_sources, read_source

# A function with this body returns None, which a check answers with "not started yet".
STUB = "# your code here\n..."
CHECK_CALL = re.compile(r"^\s*(?:\w+\s*=\s*)?check\.(\w+)\(", re.MULTILINE)
FUNCTION = re.compile(r"^(?:def|class)\s+(\w+)", re.MULTILINE)
POINTS_TAG = re.compile(r"points-(\d+)")
SOLUTION_ONLY_TAG = "solution-only"


def exercise_path(source: Source) -> Path:
    return source.root / "exercises" / f"{source.name}.ipynb"


def exercise_text(source: Source) -> str:
    """Return the canonical exercise notebook of one solution source."""
    return canonical_text(release(read_source(source.path)))


def release(notebook):
    """Return the notebook that a student gets. The one given is not changed.

    Raises CourseError if a solution or a hidden test stands where nbgrader would not find it again.
    """
    import copy

    notebook = copy.deepcopy(notebook)
    for number, cell in enumerate(notebook.cells, start=1):
        mark(cell, number)
    resources = {}
    for preprocessor in preprocessors():
        try:
            notebook, resources = preprocessor.preprocess(notebook, resources)
        except Exception as error:  # nbgrader raises bare RuntimeErrors and its own ValidationError
            raise CourseError(f"nbgrader cannot release this notebook: {error}") from error
    return notebook


def preprocessors() -> list:
    """Return nbgrader's and nbconvert's, in the order of `nbgrader generate_assignment`, without its database."""
    from nbconvert.preprocessors import TagRemovePreprocessor
    from nbgrader.preprocessors import (
        CheckCellMetadata,
        ClearHiddenTests,
        ClearOutput,
        ClearSolutions,
        LockCells,
    )

    return [
        TagRemovePreprocessor(enabled=True, remove_cell_tags={SOLUTION_ONLY_TAG}),
        # the student's cell must not get lost; a check may be edited, to add .hint(2)
        LockCells(lock_grade_cells=False, lock_readonly_cells=False),
        ClearSolutions(code_stub={"python": STUB}, text_stub="*Your answer here.*"),
        ClearOutput(),
        ClearHiddenTests(),
        CheckCellMetadata(),
    ]


def mark(cell, number: int) -> None:
    """Give a solution or check cell the metadata by which nbgrader knows it."""
    if "BEGIN SOLUTION" in cell.source:
        name = FUNCTION.search(cell.source)
        cell.metadata["nbgrader"] = grading(name[1] if name else f"answer_{number}", solution=True)
        if cell.cell_type == "markdown":
            cell.metadata["nbgrader"] |= {"grade": True, "points": points_of(cell)}  # read by a person
    elif cell.cell_type == "code" and (call := CHECK_CALL.search(cell.source)):
        cell.metadata["nbgrader"] = grading(f"check_{call[1]}", locked=True)
        cell.metadata["nbgrader"] |= {"grade": True, "points": points_of(cell)}


def grading(grade_id: str, *, solution: bool = False, locked: bool = False) -> dict:
    return {
        "schema_version": 3,
        "grade_id": grade_id,
        "solution": solution,
        "locked": locked,
        "grade": False,
        "task": False,
    }


def points_of(cell) -> int:
    found = [POINTS_TAG.fullmatch(tag) for tag in cell.metadata.get("tags", [])]
    return next((int(match[1]) for match in found if match), 1)


def build_exercises(root: Path) -> list[Path]:
    """Write the exercise notebook of every solution; return the paths of those that changed."""
    return [path for path, text in fresh_exercises(root).items() if write_if_new(path, text)]


def stale_exercises(root: Path) -> list[Path]:
    """Return the exercise notebooks that differ from what their solutions generate."""
    return [path for path, text in fresh_exercises(root).items() if not holds(path, text)]


def fresh_exercises(root: Path) -> dict[Path, str]:
    return {exercise_path(s): exercise_text(s) for s in all_sources(root) if s.folder == "solutions"}


def holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def write_if_new(path: Path, text: str) -> bool:
    """Write the text as bytes, without carriage returns on Windows. False if the file holds it already."""
    if holds(path, text):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return True
