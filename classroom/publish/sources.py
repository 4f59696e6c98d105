"""The written sources of the course: where they are, what they are called, how they read as notebooks, parameters.

A source is a Python file in jupytext's py:percent form, `notebooks/src/NN_word.py` or
`solutions/src/NN_word.py`. It needs no header: the build gives every notebook the same kernelspec. One cell
is tagged `parameters` and holds `PROFILE = "ci"` and whatever else a run may want to set. A run's own
values are put into a cell *after* it, so sizes that depend on the profile belong in the cell after that:

    # %% tags=["parameters"]
    PROFILE = "ci"

    # %%
    samples = {"ci": 10_000, "cpu": 1_000_000, "gpu": 100_000_000}[PROFILE]

In a solution the heading of an exercise is its name, `# ## {bytes_held}`: number, title and minutes are filled in from
the lecture's `exercises.py`, and `{minutes}` is the sum of all.
"""

from __future__ import annotations

import ast
import copy
import difflib
import itertools
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from classroom import lectures
from classroom.checking.outline import Outline, outlines

LECTURES = Path(lectures.__file__).parent
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
FOLDERS = ("notebooks", "solutions")
FILE_PATTERN = "[0-9][0-9]_*.py"


class CourseError(Exception):
    """Something that the caller can fix; the message says what happened, what was expected and what to do."""


@dataclass(frozen=True, order=True)
class Source:
    """One written notebook. `folder` is "notebooks" or "solutions", `name` is NN_word."""

    root: Path
    folder: str
    name: str

    @property
    def path(self) -> Path:
        return self.root / self.folder / "src" / f"{self.name}.py"

    @property
    def built(self) -> Path:
        """The committed, executed notebook."""
        return self.root / self.folder / f"{self.name}.ipynb"

    @property
    def label(self) -> str:
        return f"{self.folder}/{self.name}"


def find_root(start: Path | None = None) -> Path:
    """Return the course's folder: the first upwards from `start` (default: here), else the one of this package.

    Raises CourseError if neither belongs to the course.
    """
    start = (start or Path.cwd()).resolve()
    package = Path(__file__).resolve()
    for folder in (start, *start.parents, *package.parents):
        if is_root(folder):
            return folder
    raise CourseError(f"{start} is not in the folder of the course, or below it. Change to your clone.")


def is_root(folder: Path) -> bool:
    """Tell whether the folder's pyproject.toml is that of the project coursekit."""
    project = folder / "pyproject.toml"
    if not project.is_file():
        return False
    try:
        settings = tomllib.loads(project.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # another project's, which may be broken, in a folder above
        return False
    return settings.get("project", {}).get("name") == "coursekit"


def all_sources(root: Path) -> list[Source]:
    """Return lectures first, then solutions, each in order of their number."""
    return [
        Source(root, folder, path.stem)
        for folder in FOLDERS
        for path in sorted((root / folder / "src").glob(FILE_PATTERN))
    ]


def pick(sources: list[Source], names: tuple[str, ...]) -> list[Source]:
    """Return the sources that `names` mean; all of them if there are no names.

    A name is 01_formats, 01, 1 or formats (lecture and solution), solutions/01_formats (that one),
    solutions (all of that folder), or the path of a file. Raises CourseError with the nearest names for a
    name that means none.
    """
    for name in names:
        if not any(matches(source, name) for source in sources):
            raise CourseError(f"there is no notebook {name!r}. {did_you_mean(name, sources)}")
    if not names:
        return sources
    return [source for source in sources if any(matches(source, name) for name in names)]


def matches(source: Source, name: str) -> bool:
    """Tell whether `name` means this source."""
    *folders, last = name.replace("\\", "/").rstrip("/").split("/")
    if last in FOLDERS:
        return source.folder == last
    in_folder = not set(folders) & set(FOLDERS) or source.folder in folders
    return in_folder and matches_name(source.name, last)


def matches_name(name: str, wanted: str) -> bool:
    """Tell whether `wanted` (01_formats, 01, 1, formats, or a file's name) means the lecture `name`, NN_word."""
    number, _, word = name.partition("_")
    return Path(wanted).stem in (name, word, number, number.lstrip("0") or "0")


def did_you_mean(name: str, sources: list[Source]) -> str:
    """Return a question with the nearest names, or the list of all."""
    names = list(dict.fromkeys(source.name for source in sources))
    full_name = {word: full for full in names for word in (full, full.partition("_")[2])}
    near = difflib.get_close_matches(Path(name).stem, full_name, n=2)
    if near:
        return f"Did you mean {' or '.join(dict.fromkeys(full_name[word] for word in near))}?"
    return f"There are: {', '.join(names) or 'none yet'}."


def read_source(path: Path):
    """Return the source as a notebook without outputs: cells, their tags, the course's kernelspec.

    In a solution the headings are filled in. Raises CourseError for a heading of an exercise that is not declared.
    """
    import jupytext

    text = path.read_text(encoding="utf-8")
    if path.parent.parent.name == "solutions":
        exercises = outlines(LECTURES / path.stem.partition("_")[2] / "exercises.py")
        text = with_headings(text, exercises, path.name)
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata = type(notebook.metadata)({"kernelspec": KERNELSPEC})
    return notebook


HEADING = re.compile(r"^# ## \{(\w+)\}$", re.MULTILINE)


def with_headings(text: str, exercises: list[Outline], file: str = "the source") -> str:
    """`# ## {bytes_held}` becomes `# ## 3. Bytes that stay (10 minutes)`, "*About {minutes} minutes" the sum of all.

    The number is the heading's place in the text. Raises CourseError for a name that no exercise has.
    """
    known = {exercise.name: exercise for exercise in exercises}
    numbers = itertools.count(1)

    def heading(match: re.Match) -> str:
        exercise = known.get(match[1])
        if exercise is None:
            raise CourseError(
                f"{file} has a heading for {match[1]!r}; there are exercises {', '.join(known)}."
            )
        return f"# ## {next(numbers)}. {exercise.title} ({exercise.minutes} minutes)"

    total = sum(exercise.minutes for exercise in exercises)
    return HEADING.sub(heading, text).replace("*About {minutes} minutes", f"*About {total} minutes")


# ---------------------------------------------------------------- parameters

PROFILES = ("ci", "cpu", "gpu")


def parse_value(text: str):
    """Return a Python literal (3, 1e-4, True, None, [1, 2]) as its value, and anything else as the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parameters_of(notebook) -> dict[str, object]:
    """Return {name: default} of the cell tagged `parameters`, with None for a default that is not a literal."""
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
    """Copy the notebook with these values of its parameters; a plain copy if there are none to set.

    Raises CourseError for a name that the notebook's `parameters` cell does not assign.
    """
    notebook = copy.deepcopy(notebook)
    if not parameters:
        return notebook
    refuse_unknown(parameters, parameters_of(notebook))
    from papermill.parameterize import parameterize_notebook

    # papermill fails without these
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
