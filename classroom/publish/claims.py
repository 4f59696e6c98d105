"""The page of the claims register, from the rows of all lectures (`classroom.records.claim`)."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from classroom.lectures import ORDER
from classroom.records.claim import TEXTS, VERDICTS, Claim


def load() -> dict[str, list[Claim]]:
    """All claims, {word of the lecture: rows in the order of its module}.

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
    """The page `claims/README.md`."""
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
        lines += [
            "",
            f"## {word}",
            "",
            "| id | said | verdict | what is right | how we know |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells(row))} |" for row in rows
        ]
    return "\n".join(lines) + "\n"


def cells(row: Claim) -> tuple[str, ...]:
    said = f"{row.said} *({row.where})*"
    right = row.right_sentence() + (f" Convention: {row.convention}." if row.convention else "")
    return (
        row.id,
        said,
        f"**{row.verdict}**",
        right,
        ("computed; " if row.compute else "cited; ") + row.source,
    )


def to_html(register: Mapping[str, list[Claim]]) -> str:
    """One self-contained page with a search field; light and dark."""
    body = "".join(
        f"<h2>{html.escape(word)}</h2><table><thead><tr>{header()}</tr></thead>"
        f"<tbody>{''.join(map(html_row, rows))}</tbody></table>"
        for word, rows in register.items()
    )
    texts = "".join(f"<dt>{key}</dt><dd>{html.escape(text)}</dd>" for key, text in TEXTS.items())
    page = Path(__file__).with_name("templates") / "claims.html"
    return page.read_text(encoding="utf-8").replace("BODY", body).replace("TEXTS", texts)


def header() -> str:
    return "".join(
        f'<th scope="col">{name}</th>' for name in ("id", "said", "verdict", "what is right", "how we know")
    )


def html_row(row: Claim) -> str:
    id, said, verdict, right, how = (html.escape(cell.replace("*", "")) for cell in cells(row))
    return (
        f'<tr id="{id}"><th scope="row"><a href="#{id}">{id}</a></th><td>{said}</td>'
        f'<td><span class="verdict {verdict}">{verdict}</span></td><td>{right}</td><td>{how}</td></tr>'
    )


def write(root: Path) -> tuple[Path, Path]:
    """Render the register of the course at `root`: claims/README.md (committed) and build/claims.html."""
    register = load()
    page, browsable = root / "claims" / "README.md", root / "build" / "claims.html"
    page.write_text(to_markdown(register), encoding="utf-8")
    browsable.parent.mkdir(exist_ok=True)
    browsable.write_text(to_html(register), encoding="utf-8")
    return page, browsable
