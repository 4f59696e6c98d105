"""Writes the pages of the claims register from the rows of all lectures (`classroom.records.claim`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from classroom.lectures import ORDER
from classroom.records.claim import TEXTS, VERDICTS, Claim

TEMPLATES = Path(__file__).parent / "templates"
COLUMNS = ("id", "said", "verdict", "what is right", "how we know")


def load() -> dict[str, list[Claim]]:
    """Return all claims, {word of the lecture: rows in the order of its module}.

    Raises ValueError if an id occurs twice.
    """
    names = {word: f"classroom.lectures.{word}.claims" for word in ORDER}
    register = {word: rows_of(import_module(name)) for word, name in names.items() if find_spec(name)}
    seen = {}
    for word, rows in register.items():
        for row in rows:
            if row.id in seen:
                raise ValueError(f"claim {row.id} is in the lectures {seen[row.id]} and {word}; rename one.")
            seen[row.id] = word
    return register


def rows_of(module) -> list[Claim]:
    return [value for value in vars(module).values() if isinstance(value, Claim)]


def to_markdown(register: Mapping[str, list[Claim]]) -> str:
    """Return the page `claims/README.md`."""
    lines = [
        "# The claims register",
        "",
        "What is said about efficient training, and what comes out when it is computed. The figures below were",
        "computed when this page was generated (`coursekit claims`); the tests compute them again. A row without a",
        "program cites a document. The page is generated from",
        "`classroom/lectures/*/claims.py`: edit those.",
        "",
        "| verdict | means |",
        "|---|---|",
        *(f"| {name} | {meaning} |" for name, meaning in VERDICTS.items()),
        "",
        "Where the claims were found: " + "; ".join(f"**{key}** {text}" for key, text in TEXTS.items()) + ".",
    ]
    for word, rows in register.items():
        lines += ["", f"## {word}", "", markdown_row(COLUMNS), "|---" * len(COLUMNS) + "|"]
        for row in rows:
            said = f"{row.said} *({row.where})*"
            lines.append(markdown_row((row.id, said, f"**{row.verdict}**", right(row), source(row))))
    return "\n".join(lines) + "\n"


def markdown_row(cells: Iterable[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def right(row: Claim) -> str:
    """Say what is right, with the figures that this machine computes."""
    convention = f" Convention: {row.convention}." if row.convention else ""
    return row.right_sentence() + convention


def source(row: Claim) -> str:
    """Say how we know."""
    return ("computed; " if row.compute else "cited; ") + row.source


def to_html(register: Mapping[str, list[Claim]]) -> str:
    """Return one self-contained page with a search field; light and dark."""
    from jinja2 import Environment, FileSystemLoader

    templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    page = templates.get_template("claims.html.j2")
    return page.render(register=register, texts=TEXTS, columns=COLUMNS, right=right, source=source)


def write(root: Path) -> tuple[Path, Path]:
    """Render the register of the course at `root`: claims/README.md (committed) and build/claims.html."""
    register = load()
    page, browsable = root / "claims" / "README.md", root / "build" / "claims.html"
    page.write_text(to_markdown(register), encoding="utf-8")
    browsable.parent.mkdir(exist_ok=True)
    browsable.write_text(to_html(register), encoding="utf-8")
    return page, browsable
