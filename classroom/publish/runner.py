"""Run many notebooks one after the other and keep what they gave: executed copies and pages under build/.

One at a time on purpose: each notebook may use all cores, and the memory limit is the machine's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from classroom.publish.execute import REPRODUCIBLE, Run, execute
from classroom.publish.kernel import Limits
from classroom.publish.page import to_html
from classroom.publish.parameters import parameters_of, refuse_unknown
from classroom.publish.report import Board, run_words
from classroom.publish.sources import CourseError, Source, read_source


def run_all(
    sources: list[Source], console, *, profile: str, parameters: Mapping, limits: Limits, out: Path
) -> list[Run]:
    """Run every source with the profile and the parameters it has; a failing one does not stop the others.

    Raises CourseError, before anything runs, for a parameter that none of them has, and for a folder `out` that
    cannot be written to.
    """
    notebooks = {source: read_source(source.path) for source in sources}
    refuse_unknown(parameters, {name for notebook in notebooks.values() for name in parameters_of(notebook)})
    require_folder(out)
    settings = {source: settings_of(notebook, profile, parameters) for source, notebook in notebooks.items()}
    runs = []
    with Board(console, [source.label for source in sources]) as board:
        for source in sources:
            board.start(source.label)
            run = execute(
                notebooks[source],
                source.label,
                cwd=source.built.parent,
                parameters=settings[source],
                limits=limits,
                env=REPRODUCIBLE if profile == "ci" else {},
                progress=board.step,
            )
            keep(run, source, out)
            board.done(source.label, run_words(run))
            runs.append(run)
    return runs


def require_folder(out: Path) -> None:
    """Make the folder. Raises CourseError if nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            return
    except OSError as error:
        raise CourseError(
            f"expected a folder to write copies and pages to; {out} is none: {error.strerror}. "
            "Name another one with --out."
        ) from error


def settings_of(notebook, profile: str, parameters: Mapping) -> dict:
    """Those of the parameters that the notebook has and that differ from its defaults."""
    known = parameters_of(notebook)
    wanted = {"PROFILE": profile, **parameters}
    return {name: value for name, value in wanted.items() if name in known and known[name] != value}


def keep(run: Run, source: Source, out: Path) -> None:
    """Write the executed copy and its page, also of a run that failed: there one sees how far it came."""
    import nbformat

    copy = out / source.folder / f"{source.name}.ipynb"
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(run.notebook, copy)
    copy.with_suffix(".html").write_text(to_html(run.notebook, source.name), encoding="utf-8")
