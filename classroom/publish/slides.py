"""Build decks: slides/NN_name.md -> slides/build/NN_name.html, .pdf, .pptx, .md and a handout.

One path for all: execute the cells (or take the kept result), fill in the numbers, hand the Markdown to marp.
The student build is the same deck without the teacher's notes; its files are called NN_name-student.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from classroom.publish.slide_execute import executed_markdown
from classroom.publish.slide_handout import print_handout
from classroom.publish.slide_marp import run_marp
from classroom.publish.slide_source import read_deck, with_plain_notes, without_notes
from classroom.publish.sources import CourseError, find_root

FORMATS = ("html", "pdf", "pptx", "md", "handout")


def deck_paths(names: Iterable[str] = (), *, root: Path | None = None) -> list[Path]:
    """The decks of these names ("01_formats", "formats" or "01"), in order; all decks if none is named.

    Raises CourseError for a name that no deck has.
    """
    decks = sorted(((root or find_root()) / "slides").glob("[0-9][0-9]_*.md"))
    wanted = [name.removesuffix(".md") for name in names]
    found = {name: [d for d in decks if name in (d.stem, *d.stem.split("_", 1))] for name in wanted}
    unknown = [name for name, hits in found.items() if not hits]
    if unknown:
        raise CourseError(
            f"no deck is called {', '.join(unknown)}; there are {', '.join(d.stem for d in decks)}."
        )
    return [hits[0] for hits in found.values()] if wanted else decks


def build(
    names: Iterable[str] = (),
    formats: Iterable[str] = ("html",),
    out: Path | None = None,
    student: bool = False,
) -> list[Path]:
    """Build decks and return the files written, deck by deck in the order of `formats`.

    names    as for `deck_paths`; none = all
    formats  of "html", "pdf", "pptx", "md" (executed Markdown, no Node needed), "handout" (A4)
    out      the folder to write to; slides/build by default
    student  leave the teacher's notes out

    Raises CourseError for an unknown name or format and where a cell or marp fails; its kind MissingTool
    where node, marp or Chromium is missing.
    """
    formats = list(formats)
    if not set(formats) <= set(FORMATS):
        raise CourseError(f"formats must be among {', '.join(FORMATS)}; got {', '.join(formats)}.")
    out = Path(out) if out else find_root() / "slides" / "build"
    out.mkdir(parents=True, exist_ok=True)
    return [path for deck in deck_paths(names) for path in _build_one(deck, formats, out, student)]


def _build_one(deck: Path, formats: list[str], out: Path, student: bool) -> list[Path]:
    markdown = executed_markdown(deck, find_root() / "slides" / "build" / "cache")
    markdown = without_notes(markdown) if student else markdown
    stem = f"{deck.stem}-student" if student else deck.stem
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{stem}.md")
        source.write_text(markdown, encoding="utf-8")
        return [_write(source, kind, out) for kind in formats]


def _write(source: Path, kind: str, out: Path) -> Path:
    """Write one format of one executed deck."""
    root, output = find_root(), out / f"{source.stem}.{kind}"
    if kind == "handout":
        return _handout(source, out / f"{source.stem}-handout.pdf")
    if kind == "md":
        output.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    else:
        plain = source.with_suffix(".plain.md")
        switch = (
            (root / "slides" / "theme" / "switch.js").read_text(encoding="utf-8") if kind == "html" else ""
        )
        script = f"\n<script>\n{switch}</script>\n" if switch else ""
        plain.write_text(with_plain_notes(source.read_text(encoding="utf-8")) + script, encoding="utf-8")
        run_marp(plain, output, kind, root=root)
    return output


def _handout(source: Path, output: Path) -> Path:
    deck, bare = read_deck(source), source.with_suffix(".bare.html")
    run_marp(source, bare, "bare", root=find_root())
    print_handout(bare, [slide.notes for slide in deck.slides], deck.front_matter["title"], output)
    return output
