"""A deck read as slides: front matter, visible text, cells, notes and directives of each.

A deck is one Markdown file that is a Marp deck (slides part at a line `---`) and a Jupyter notebook (fences
that open with ```python are cells) at once. This module only reads; it runs nothing and needs neither Jupyter
nor Node.

An HTML comment on a slide is one of two things: Marp directives (`_class: title`, one `key: value` a line) or
notes for the teacher. `without_notes` strips the second kind, and that is all a student build is.
"""

from __future__ import annotations

import re
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
    """(front matter without its rulers, body). Raises CourseError if the file does not open with `---`."""
    match = re.match(r"---\n(.*?)\n---\n", source, re.DOTALL)
    if match is None:
        raise CourseError(
            "expected a deck to open with front matter between two lines `---`; there is none. Copy one."
        )
    return match.group(1), source[match.end() :]


def split_slides(body: str) -> list[str]:
    """The text between rulers; a `---` inside a fence or a comment is no ruler."""
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
    """What the next line stands in: "fence", "comment" or None."""
    if line.startswith("```") and inside != "comment":
        return None if inside == "fence" else "fence"
    if inside is None and "<!--" in line and "-->" not in line:
        return "comment"
    return None if inside == "comment" and "-->" in line else inside


def directives_of(comment: str) -> dict[str, str] | None:
    """{"class": "title", ...} if every line of the comment is a directive, else None: then it is a note."""
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
    """The deck with every comment gone that is not a directive."""
    return COMMENT.sub(lambda m: m.group(0) if directives_of(m.group(1)) is not None else "", markdown)


def with_plain_notes(markdown: str) -> str:
    """The deck with notes as plain text, for presenter views, PDF and PowerPoint, none of which reads Markdown."""
    return COMMENT.sub(
        lambda m: m.group(0) if directives_of(m.group(1)) else plain_note(m.group(0)), markdown
    )


def plain_note(note: str) -> str:
    """`**Know** what *this* is` becomes `KNOW what this is`."""
    note = re.sub(r"\*\*(\w+)\*\*", lambda m: m.group(1).upper(), note)
    return re.sub(r"(?<!\w)[*`]+(?=\S)|(?<=\S)[*`]+(?!\w)", "", note)
