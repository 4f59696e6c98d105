"""A card: one small boxed message that reads well as text, as HTML, on light and on dark.

Every answer of the classroom (a prediction revealed, a verdict, a takeaway, the doctor's report) is a Card.
Its status is told by a word and a glyph; colour only repeats it. The HTML carries its own style, so it also
works in an exported page or a slide, and it stays readable where a viewer strips the style. Inline code is
written `between backticks`.
"""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass

# Text colours reach a contrast of 4.5 against panel and code (tests/classroom/test_card.py computes it).
PALETTES = {
    "light": {"panel": "#f6f8fa", "code": "#e9edf1", "ink": "#1f2328", "soft": "#4f5862", "line": "#c9d1d9",
              "pass": "#0f5c26", "fail": "#9a2a0a", "todo": "#0a4f86", "note": "#643a7a",
              "keyword": "#643a7a", "string": "#0f5c26", "number": "#0a4f86", "name": "#9a2a0a"},
    "dark": {"panel": "#161b22", "code": "#232b36", "ink": "#e6edf3", "soft": "#a9b4c0", "line": "#3d4753",
             "pass": "#5fd784", "fail": "#ff9d7d", "todo": "#82c4ff", "note": "#d6b0ff",
             "keyword": "#d6b0ff", "string": "#5fd784", "number": "#82c4ff", "name": "#ff9d7d"},
}  # fmt: skip

#        kind     glyph, ARIA role
KINDS = {
    "pass": ("✓", "status"),
    "fail": ("✗", "status"),
    "todo": ("○", "status"),
    "note": ("▸", "note"),
}


def _variables(palette: dict[str, str]) -> str:
    return "".join(f"--ck-{name}:{colour};" for name, colour in palette.items())


def _style() -> str:
    """The theme a page names wins (JupyterLab, VS Code, Colab); elsewhere the reader's system decides."""
    light, dark = _variables(PALETTES["light"]), _variables(PALETTES["dark"])
    return (
        f".ck{{{light}}}"
        f"@media (prefers-color-scheme:dark){{.ck{{{dark}}}}}"
        f'body[data-jp-theme-light="true"] .ck,body.vscode-light .ck{{{light}}}'
        f'body[data-jp-theme-light="false"] .ck,body.vscode-dark .ck,html[theme="dark"] .ck{{{dark}}}'
        ".ck{background:var(--ck-panel);color:var(--ck-ink);border:1px solid var(--ck-line);"
        "border-left:4px solid var(--ck-accent,var(--ck-todo));border-radius:4px;padding:.6em .9em;"
        "margin:.3em 0;max-width:62em;font:14px/1.5 var(--jp-ui-font-family,system-ui,sans-serif)}"
        ".ck p{margin:.25em 0}.ck .ck-head{color:var(--ck-accent)}.ck .ck-soft{color:var(--ck-soft)}"
        ".ck code,.ck pre{background:var(--ck-code);color:inherit;border-radius:3px;"
        "font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:.93em}"
        ".ck code{padding:.1em .3em}.ck pre{padding:.5em .7em;margin:.4em 0;overflow-x:auto;line-height:1.45}"
        ".ck table{border-collapse:collapse;margin:.4em 0;font-size:1em;color:inherit;background:none}"
        ".ck th,.ck td{text-align:left;vertical-align:top;padding:.15em 1.2em .15em 0;border:0;"
        "background:none;color:inherit;white-space:normal}.ck tbody th{font-weight:600}"
        ".ck thead th{color:var(--ck-soft);font-weight:600}.ck ul,.ck ol{margin:.25em 0;padding-left:1.6em}"
        ".ck .k{color:var(--ck-keyword)}.ck .s{color:var(--ck-string)}.ck .m{color:var(--ck-number)}"
        ".ck .n{color:var(--ck-name)}.ck .c{color:var(--ck-soft);font-style:italic}"
        + "".join(f".ck-{kind}{{--ck-accent:var(--ck-{kind})}}" for kind in KINDS)
    )


STYLE = _style()


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
        # tabindex: a block that scrolls must be reachable from the keyboard
        return f'<pre tabindex="0">{self.markup or html.escape(self.source)}</pre>'


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
