"""A card: one small boxed message that reads well as text, as HTML, on light and on dark.

Every answer of the classroom (a prediction revealed, a verdict, a takeaway, the doctor's report) is a Card. A word and
a glyph tell its status; colour only repeats it. The HTML brings its own style, so it also works in an exported page or
a slide, and it stays readable if a viewer strips the style. Inline code is
written `between backticks`.
"""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass

from classroom.checking.card_style import STYLE

#        kind     glyph, ARIA role
KINDS = {
    "pass": ("✓", "status"),
    "fail": ("✗", "status"),
    "todo": ("○", "status"),
    "note": ("▸", "note"),
}


def inline(text: str) -> str:
    """Text as HTML: escaped, `code` between backticks marked up."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


@dataclass(frozen=True)
class Paragraph:
    words: str
    soft: bool = False

    def text(self) -> str:
        return self.words

    def html(self) -> str:
        tag = '<p class="ck-soft">' if self.soft else "<p>"
        return f"{tag}{inline(self.words)}</p>"


@dataclass(frozen=True)
class Items:
    """A list; with a label its items are counted ("Hint 1:", "Hint 2:")."""

    items: tuple[str, ...]
    label: str = ""

    def text(self) -> str:
        return "\n".join(f"{mark} {item}" for mark, item in zip(self._marks(), self.items, strict=True))

    def _marks(self) -> list[str]:
        return [f"{self.label} {i}:" if self.label else "-" for i in range(1, len(self.items) + 1)]

    def html(self) -> str:
        if not self.label:
            return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in self.items) + "</ul>"
        pairs = zip(self._marks(), self.items, strict=True)
        return "".join(f"<p><strong>{html.escape(mark)}</strong> {inline(item)}</p>" for mark, item in pairs)


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its heading. `head` may be empty."""

    rows: tuple[tuple[str, ...], ...]
    head: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [self.head, *self.rows] if self.head else list(self.rows)
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def html(self) -> str:
        head = "".join(f'<th scope="col">{inline(cell)}</th>' for cell in self.head)
        body = "".join(
            f'<tr><th scope="row">{inline(row[0])}</th>'
            + "".join(f"<td>{inline(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        head = f"<thead><tr>{head}</tr></thead>" if head else ""
        return f"<table>{head}<tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class Code:
    """Source: `source` is shown as text; `markup` is the same, highlighted, for HTML."""

    source: str
    markup: str = ""

    def text(self) -> str:
        return self.source

    def html(self) -> str:
        # No newlines: Markdown ends HTML at an empty line.
        markup = (self.markup or html.escape(self.source)).replace("\n", "&#10;")
        # tabindex: a block that scrolls must be reachable from the keyboard
        return f'<pre tabindex="0">{markup}</pre>'


@dataclass(frozen=True)
class Card:
    """`kind` is a key of KINDS; `status` is the word that says it ("Passed"); `title` what it is about."""

    kind: str
    status: str
    title: str
    parts: tuple[Paragraph | Items | Table | Code, ...] = ()

    @property
    def heading(self) -> str:
        return f"{self.status}: {self.title}" if self.title else self.status

    def text(self) -> str:
        return "\n".join([f"{KINDS[self.kind][0]} {self.heading}", *(part.text() for part in self.parts)])

    def html(self) -> str:
        glyph, role = KINDS[self.kind]
        status = html.escape(self.status) + (":" if self.title else "")
        head = f'<span aria-hidden="true">{glyph}</span> <strong>{status}</strong> {inline(self.title)}'
        body = "".join(part.html() for part in self.parts)
        label = html.escape(self.heading)
        return (
            f'<div class="ck ck-{self.kind}" role="{role}" aria-label="{label}"><style>{STYLE}</style>'
            f'<p class="ck-head">{head.strip()}</p>{body}</div>'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}

    def __str__(self) -> str:
        return self.text()


def display(card) -> None:
    """Display a card where a notebook listens, print it elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None:
        print(card)
    else:
        from IPython.display import display as display_in_notebook

        display_in_notebook(card)
