"""Reads a deck as slides: front matter, visible text, cells, notes and directives of each. `lint` checks its rules.

A deck is one Markdown file that is both a Marp deck (a line `---` separates slides) and a Jupyter notebook (fences that
open with ```python are cells). Nothing is run here, and neither Jupyter nor Node is needed. An HTML comment on a slide
is either Marp directives (`_class: title`, one `key: value` per line) or notes for the teacher. `without_notes` strips
the notes; a student build is nothing else.

The rules of `lint`, which returns one line per breach:

numbers     no typed figure: a decimal, a thousands comma, a number with a unit. They come from cells or {{ }}
notes       Know, Say and TIME on every slide; an Ask has its answer and the wrong answer that will come
questions   at least one Ask in any five slides in a row
minutes     the TIMEs add up to `minutes` of the front matter
titles      exactly one heading per slide
pictures    an alt text for each
sources     a slide that shows a result says at its foot where it comes from ("Source: " or "Computed: ")
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from classroom.publish.sources import CourseError

# Every directive that Marp or Marpit knows; an underscore in front means "this slide only".
DIRECTIVES = (
    "marp|theme|style|headingDivider|size|math|title|author|description|keywords|url|image|lang|paginate|header|footer"
    "|class|color|transition|background(?:Color|Image|Position|Repeat|Size)"
)
DIRECTIVE_LINE = re.compile(rf"_?({DIRECTIVES})\s*:\s*(.*)")
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
INLINE_VALUE = re.compile(r"\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True)
class Slide:
    """One slide: `text` is what the audience reads (no comments, no cells), `notes` the teacher's."""

    number: int
    source: str
    text: str
    notes: str
    cells: tuple[str, ...]
    directives: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deck:
    name: str
    front_matter: dict
    slides: tuple[Slide, ...]


def split_front_matter(source: str) -> tuple[str, str]:
    """Return (front matter without its rulers, body). Raises CourseError if the file does not open with `---`."""
    match = re.match(r"---\n(.*?)\n---\n", source, re.DOTALL)
    if match is None:
        raise CourseError(
            "the deck has no front matter between two lines `---` at its start. Copy that of another deck."
        )
    return match.group(1), source[match.end() :]


def split_slides(body: str) -> list[str]:
    """Return the text between rulers; a `---` inside a fence or a comment is not a ruler."""
    slides, lines, inside = [], [], None
    for line in body.splitlines():
        if inside is None and line.strip() == "---":
            slides.append("\n".join(lines))
            lines = []
            continue
        inside = _inside(line, inside)
        lines.append(line)
    return [*slides, "\n".join(lines)]


def _inside(line: str, inside: str | None) -> str | None:
    """Return what the next line stands in: "fence", "comment" or None."""
    if line.startswith("```") and inside != "comment":
        return None if inside == "fence" else "fence"
    if inside is None and "<!--" in line and "-->" not in line:
        return "comment"
    return None if inside == "comment" and "-->" in line else inside


def directives_of(comment: str) -> dict[str, str] | None:
    """Return {"class": "title", ...} if every line of the comment is a directive, else None: it is a note."""
    lines = [line.strip() for line in comment.strip().splitlines() if line.strip()]
    found = [DIRECTIVE_LINE.fullmatch(line) for line in lines]
    if not found or not all(found):
        return None
    return {match.group(1): match.group(2).strip().strip("\"'") for match in found}


def read_slide(number: int, source: str) -> Slide:
    comments = COMMENT.findall(source)
    directives = {}
    for comment in comments:
        directives |= directives_of(comment) or {}
    notes = "\n\n".join(comment.strip() for comment in comments if directives_of(comment) is None)
    cells = tuple(code for language, code in FENCE.findall(source) if language == "python")
    text = FENCE.sub("", COMMENT.sub("", source)).strip()
    return Slide(number, source, text, notes, cells, directives)


def parse_deck(name: str, source: str) -> Deck:
    """Raises CourseError if the source has no front matter."""
    import yaml

    head, body = split_front_matter(source)
    slides = tuple(read_slide(i, text) for i, text in enumerate(split_slides(body), start=1))
    return Deck(name, yaml.safe_load(head), slides)


def read_deck(path: Path) -> Deck:
    return parse_deck(path.stem, path.read_text(encoding="utf-8"))


def without_notes(markdown: str) -> str:
    """Remove every comment that is not a directive."""
    return _with_notes(markdown, lambda note: "")


def with_plain_notes(markdown: str) -> str:
    """Turn notes into plain text, for presenter views, PDF and PowerPoint, none of which reads Markdown."""
    return _with_notes(markdown, plain_note)


def _with_notes(markdown: str, replacement: Callable[[str], str]) -> str:
    def replaced(comment: re.Match) -> str:
        is_note = directives_of(comment[1]) is None
        return replacement(comment[0]) if is_note else comment[0]

    return COMMENT.sub(replaced, markdown)


def plain_note(note: str) -> str:
    """Turn `**Know** what *this* is` into `KNOW what this is`."""
    note = re.sub(r"\*\*(\w+)\*\*", lambda m: m.group(1).upper(), note)
    return re.sub(r"(?<!\w)[*`]+(?=\S)|(?<=\S)[*`]+(?!\w)", "", note)


# ---------------------------------------------------------------- the rules

ASK_WITHIN = 5
TIME = re.compile(r"^TIME (\d+) min$", re.MULTILINE)
UNITS = (
    r"(?:%|×|times|bits?|bytes?|[kKMGT]i?B|B|ns|us|µs|ms|s|seconds?|min|minutes?|hours?|[kMG]?Hz|[kMG]?W|kWh|"
    r"[GTP]?FLOPS?|numbers|values|codes|elements|parameters|params)"
)
TYPED_NUMBER = re.compile(
    rf"(?<![\w.^])(?:\d+\.\d+|\d{{1,3}}(?:,\d{{3}})+|\d{{5,}}|\d+[ \u00a0]?{UNITS}(?!\w))"
)
# What only looks like a figure: a slide's minutes, the width in a format's name, versions, arXiv numbers.
ALLOWED = re.compile(
    r"^TIME \d+ min$|\b\d+-bit\b|\b[Ee]xercise \d+|\barXiv:\d{4}\.\d+|\b(?:Python|torch) \d+(?:\.\d+)*\b",
    re.MULTILINE,
)
SHOWN = re.compile(r"\bshow\(|\bdisplay\(|\bHTML\(|\bMarkdown\(")


def lint(deck: Deck) -> list[str]:
    """Return one line per breach, "slide 7: typed number '65,504' ..."; an empty list means the deck is in order."""
    found = [f"slide {slide.number}: {text}" for slide in deck.slides for text in _slide(slide)]
    return found + list(_deck(deck))


def minutes_of(slide: Slide) -> int | None:
    match = TIME.search(slide.notes)
    return int(match.group(1)) if match else None


def typed_numbers(text: str) -> list[str]:
    """Return the figures in a text that were typed and not computed."""
    return TYPED_NUMBER.findall(ALLOWED.sub(" ", INLINE_VALUE.sub(" ", _without_math(text))))


def _without_math(text: str) -> str:
    """Drop formulas, which hold constants (2^{-24}) and not results, but keep the decimals in them."""
    return re.sub(r"\$[^$]+\$", lambda m: " ".join(re.findall(r"\d+\.\d+", m.group(0))), text)


def _slide(slide: Slide) -> Iterator[str]:
    for figure in typed_numbers(slide.text) + typed_numbers(slide.notes):
        yield f"typed number {figure!r}. Let a cell compute it, or write {{{{ expression }}}}."
    yield from _notes(slide)
    headings = re.findall(r"^#{1,2} ", slide.text, re.MULTILINE)
    if len(headings) != 1:
        yield f"{len(headings)} headings; a slide has one, which says what it found."
    yield from _pictures(slide)
    foot = slide.directives.get("footer", "")
    if _shows_result(slide) and not foot.startswith(("Source:", "Computed:")):
        yield 'a result without provenance. Add <!-- _footer: "Source: ..." --> or "Computed: ...".'


def _notes(slide: Slide) -> Iterator[str]:
    for part in ("Know", "Say"):
        if f"**{part}** " not in slide.notes:
            yield f"no **{part}** in the notes."
    if minutes_of(slide) is None:
        yield "no line `TIME n min` in the notes."
    if "**Ask** " in slide.notes and not ("*Answer:* " in slide.notes and "*Wrong answer:* " in slide.notes):
        yield "an **Ask** without its *Answer:* or without the *Wrong answer:* that will come."


def _pictures(slide: Slide) -> Iterator[str]:
    for cell in slide.cells:
        yield from _figures(cell)
    for image in re.findall(r"!\[\s*\]\([^)]*\)|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>", slide.text):
        yield f"a picture without alt text: {image}"


def _figures(cell: str) -> Iterator[str]:
    """Yield each `show(figure)` without alt text: the slide has its own point, whatever the figure is called."""
    calls = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)]
    for call in calls:
        described = len(call.args) > 1 or any(keyword.arg == "alt" for keyword in call.keywords)
        if getattr(call.func, "id", "") == "show" and not described:
            yield f"a figure without alt text: {ast.unparse(call)}"


def _shows_result(slide: Slide) -> bool:
    if slide.directives.get("class") in ("title", "question"):
        return False  # they announce and ask; the results are on the slides after them
    return bool(INLINE_VALUE.search(slide.text) or any(SHOWN.search(cell) for cell in slide.cells))


def _deck(deck: Deck) -> Iterator[str]:
    planned = deck.front_matter.get("minutes")
    total = sum(minutes_of(slide) or 0 for slide in deck.slides)
    if total != planned:
        yield f"the slides take {total} min, the front matter plans {planned}."
    asked = [0, *(s.number for s in deck.slides if "**Ask** " in s.notes), len(deck.slides) + 1]
    for before, after in itertools.pairwise(asked):
        if after - before > ASK_WITHIN:
            yield f"no **Ask** on slides {before + 1} to {after - 1}; any {ASK_WITHIN} in a row need one."
