"""Build everything that is generated, or say what is stale: notebooks, solutions, exercises, decks.

Notebooks and exercises are committed; decks are not, they only have to build.
"""

from __future__ import annotations

from pathlib import Path

from classroom.publish.execute import Run
from classroom.publish.exercises import build_exercises, stale_exercises
from classroom.publish.kernel import Limits
from classroom.publish.notebooks import build, check, orphans
from classroom.publish.report import Board, run_words
from classroom.publish.sources import Source


def build_notebooks(sources: list[Source], console, *, force: bool, limits: Limits) -> list[Run]:
    """Build the sources that need it; the runs that this took, failed ones included."""
    runs = []
    with Board(console, [source.label for source in sources]) as board:
        for source in sources:
            board.start(source.label)
            run = build(source, force=force, limits=limits, progress=board.step)
            board.done(source.label, run_words(run) if run else "up to date")
            runs += [run] if run else []
    return runs


def check_notebooks(sources: list[Source], console, *, limits: Limits) -> dict[str, list[str]]:
    """{label: why it is stale} of the sources whose committed notebook no longer holds."""
    stale = {}
    with Board(console, [source.label for source in sources]) as board:
        for source in sources:
            board.start(source.label)
            found = check(source, limits=limits, progress=board.step)
            board.done(source.label, "; ".join(["STALE", *found]) if found else "up to date")
            stale |= {source.label: found} if found else {}
    return stale


def write_exercises(root: Path, console) -> None:
    for path in build_exercises(root):
        console.print(f"{path.relative_to(root)}  written", markup=False, highlight=False)


def check_rest(root: Path, console) -> list[str]:
    """A printed sentence for each stale exercise and each notebook that nothing generates."""
    found = [
        f"{path.relative_to(root).as_posix()}  STALE; its solution has changed"
        for path in stale_exercises(root)
    ]
    found += [f"{path.relative_to(root).as_posix()}  has no source: delete it" for path in orphans(root)]
    for sentence in found:
        console.print(sentence, markup=False, highlight=False)
    return found


def build_decks(names: tuple[str, ...], console) -> None:
    """The HTML of every deck, or of those that `names` name; without Node, a sentence and no deck."""
    from classroom.publish.slide_marp import MissingTool
    from classroom.publish.slides import build as build_slides
    from classroom.publish.slides import deck_paths
    from classroom.publish.sources import matches_name

    wanted = [
        deck.stem
        for deck in deck_paths()
        if not names or any(matches_name(deck.stem, name) for name in names)
    ]
    try:
        for path in build_slides(wanted) if wanted else []:
            console.print(f"slides/build/{path.name}  built", markup=False, highlight=False)
    except MissingTool as missing:
        console.print(f"slides  not built: {missing}", markup=False, highlight=False)
