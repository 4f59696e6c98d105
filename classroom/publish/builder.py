"""Builds everything that is generated, or says what is stale: notebooks, solutions and exercises.

text source -> cells -> executed in a fresh kernel -> canonical -> `NN_word.ipynb`. One way: nobody edits the last by
hand. Notebooks and exercises are committed. Decks are not (`slides`); they only have to build.
"""

from __future__ import annotations

from pathlib import Path

from classroom.publish.canonical import canonical_text, differences, refusals, text_differences
from classroom.publish.execute import REPRODUCIBLE, Run, execute
from classroom.publish.exercises import build_exercises, exercise_path, stale_exercises, write_if_new
from classroom.publish.limits import Limits
from classroom.publish.runs import Board, run_words
from classroom.publish.sources import FOLDERS, CourseError, Source, all_sources, read_source
from classroom.publish.stamps import Stamps, inputs_digest


def build(source: Source, *, force: bool = False, limits: Limits | None = None, progress=None) -> Run | None:
    """Execute the source and write its committed notebook; None if that is up to date and `force` is off.

    A run that fails writes nothing. Raises CourseError if the outputs cannot be committed.
    """
    stamps, inputs = Stamps(source.root), digest_of(source)
    if stamps.fresh(source.built, inputs) and not force:
        return None
    run = run_source(source, limits=limits, progress=progress)
    if run.ok:
        if reasons := refusals(run.notebook):
            raise CourseError(f"{run.label} cannot be committed: {' '.join(reasons)}")
        write_if_new(source.built, canonical_text(run.notebook))
        stamps.record(source.built, inputs)
    return run


def check(source: Source, *, limits: Limits | None = None, progress=None) -> list[str]:
    """Say why the committed notebook is stale; [] if it holds. It is run only if no stamp vouches for it."""
    found = stale_text(source)
    stamps, inputs = Stamps(source.root), digest_of(source)
    if found or stamps.fresh(source.built, inputs):
        return found
    run = run_source(source, limits=limits, progress=progress)
    if run.failure:
        return [f"the source does not run: {run.failure.reason}"]
    found = stale_outputs(source, run)
    if not found:
        stamps.record(source.built, inputs)
    return found


def run_source(source: Source, *, parameters=None, limits: Limits | None = None, progress=None) -> Run:
    """Execute a source where its notebook lies, with the settings that make outputs repeat."""
    return execute(
        read_source(source.path),
        source.label,
        cwd=source.built.parent,
        parameters=parameters,
        limits=limits,
        env=REPRODUCIBLE,
        progress=progress,
    )


def digest_of(source: Source) -> str:
    return inputs_digest(source.path.read_text(encoding="utf-8"), source.built.parent, source.root)


def stale_text(source: Source) -> list[str]:
    """Say why the committed notebook is stale as far as that shows without running it; [] if nothing shows."""
    if not source.built.is_file():
        return ["it has not been built"]
    committed = read_built(source.built)
    if canonical_text(committed).encode() != source.built.read_bytes():
        return ["it was not written by the build"]
    return text_differences(read_source(source.path), committed)


def stale_outputs(source: Source, run: Run) -> list[str]:
    """Say how this execution of the source differs from the committed notebook."""
    import nbformat

    fresh = nbformat.reads(canonical_text(run.notebook), as_version=4)
    return differences(fresh, read_built(source.built))


def read_built(path: Path):
    import nbformat

    return nbformat.read(path, as_version=4)


# ---------------------------------------------------------------- all of them


def build_notebooks(sources: list[Source], console, *, force: bool, limits: Limits) -> list[Run]:
    """Build the sources that need it; return the runs that this took, failed ones included."""
    runs = []
    with Board(console, [source.label for source in sources]) as board:
        for source in sources:
            board.start(source.label)
            run = build(source, force=force, limits=limits, progress=board.step)
            board.done(source.label, run_words(run) if run else "up to date")
            if run:
                runs.append(run)
    return runs


def check_notebooks(sources: list[Source], console, *, limits: Limits) -> dict[str, list[str]]:
    """Return {label: why it is stale} of the sources whose committed notebook no longer holds."""
    stale = {}
    with Board(console, [source.label for source in sources]) as board:
        for source in sources:
            board.start(source.label)
            found = check(source, limits=limits, progress=board.step)
            board.done(source.label, "; ".join(["STALE", *found]) if found else "up to date")
            if found:
                stale[source.label] = found
    return stale


def write_exercises(root: Path, console) -> None:
    for path in build_exercises(root):
        console.print(f"{path.relative_to(root)}  written", markup=False, highlight=False)


def check_rest(root: Path, console) -> list[str]:
    """Print and return a sentence for each stale exercise and each notebook without a source."""
    stale = [f"{_name(path, root)}  STALE; its solution has changed" for path in stale_exercises(root)]
    lost = [f"{_name(path, root)}  has no source: delete it" for path in orphans(root)]
    for sentence in (*stale, *lost):
        console.print(sentence, markup=False, highlight=False)
    return [*stale, *lost]


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def orphans(root: Path) -> list[Path]:
    """Return the committed notebooks that no source gives."""
    sources = all_sources(root)
    expected = {source.built for source in sources}
    expected |= {exercise_path(source) for source in sources if source.folder == "solutions"}
    found = {path for folder in (*FOLDERS, "exercises") for path in (root / folder).glob("*.ipynb")}
    return sorted(found - expected)
