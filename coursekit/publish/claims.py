"""The claims register: what others say, beside the function that computes the right figure.

A claim lives in `claims/word.py`, one file a lecture, as a decorated function:

    @claim("HU2", said="...", where="...", verdict="imprecise", right="It is {stored}.",
           figures={"stored": 1.0}, source="torch.float16")
    def one_and_a_ten_thousandth():
        return {"stored": float(torch.tensor(1.0001, dtype=torch.float16))}

`figures` is what the audit says, the function's result is what this machine computes; `mismatches` compares the
two, and the page prints the computed ones. A claim that no program can decide is `cited`: it names a document and
has no figures.
"""

from __future__ import annotations

import html
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

VERDICTS = {
    "right": "as stated",
    "wrong": "does not hold",
    "imprecise": "holds only with conditions that are not stated",
    "outdated": "held once",
    "inconsistent": "contradicts its own text",
}

TEXTS = {
    "RU": "a Russian seminar deck on fine-tuning large language models",
    "HU": "a Hungarian teacher's guide to lecture 12 of Stanford's CS224N, Efficient Neural Network Training",
    "HS": "Hungarian slides on efficient training practice",
    "AZ": "an Azerbaijani chapter on training 100 million parameters in 4 GB",
    "ZH": "a Chinese lab on Alpaca with DeepSpeed",
    "LB": "the documentation of a library",
}


@dataclass(frozen=True)
class Claim:
    """One row of the register. `right` may name figures in braces, as in str.format."""

    id: str
    said: str
    where: str
    verdict: str
    right: str
    source: str
    compute: Callable[[], Mapping[str, float]] | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 0.0
    convention: str = ""

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(
                f"claim {self.id}: the verdict must be one of {', '.join(VERDICTS)}; got {self.verdict!r}."
            )
        if self.compute and not self.figures:
            raise ValueError(f"claim {self.id}: a computed claim needs `figures` to be held against.")
        if not self.compute and not self.source:
            raise ValueError(f"claim {self.id}: a claim without a function needs a source to cite.")

    def right_sentence(self) -> str:
        """`right` with the figures that this machine computes."""
        return self.right.format(**self.compute()) if self.compute else self.right


def claim(id: str, **facts) -> Callable[[Callable], Claim]:
    """Decorator: turns the function that computes the figures into a Claim."""
    return lambda compute: Claim(id=id, compute=compute, **facts)


def cited(id: str, **facts) -> Claim:
    """A claim decided by a document and not by a program."""
    return Claim(id=id, **facts)


def mismatches(row: Claim) -> list[str]:
    """Sentences, one for each figure that does not come out as audited; empty if all do."""
    if row.compute is None:
        return []
    got = row.compute()
    if got.keys() != row.figures.keys():
        return [f"{row.id}: the audit lists {sorted(row.figures)}, the function computes {sorted(got)}."]
    return [
        f"{row.id}: {name} should be {expected!r}, came out as {got[name]!r}."
        for name, expected in row.figures.items()
        if not same(got[name], expected, row.tolerance)
    ]


def same(got, expected, tolerance: float) -> bool:
    if isinstance(expected, str) or not tolerance:
        return got == expected
    return math.isclose(got, expected, rel_tol=tolerance)


def load(folder: Path) -> dict[str, list[Claim]]:
    """All claims below `folder`, {lecture word: rows in the order of the file}.

    Raises ValueError if an id occurs twice.
    """
    register = {path.stem: rows_of(path) for path in sorted(folder.glob("*.py"))}
    seen = {}
    for word, rows in register.items():
        for row in rows:
            if row.id in seen:
                raise ValueError(
                    f"claim {row.id} is in claims/{seen[row.id]}.py and in claims/{word}.py; rename one."
                )
            seen[row.id] = word
    return register


def rows_of(path: Path) -> list[Claim]:
    spec = importlib.util.spec_from_file_location(f"claims_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [value for value in vars(module).values() if isinstance(value, Claim)]


def to_markdown(register: Mapping[str, list[Claim]]) -> str:
    """The page `claims/README.md`."""
    lines = [
        "# The claims register",
        "",
        "What is said about efficient training, and what comes out when it is computed. The figures below were",
        "computed when this page was generated (`coursekit claims`); the tests compute them again. A row without a",
        "program cites a document. The page is generated from `claims/*.py`: edit those.",
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
    register = load(root / "claims")
    page, browsable = root / "claims" / "README.md", root / "build" / "claims.html"
    page.write_text(to_markdown(register), encoding="utf-8")
    browsable.parent.mkdir(exist_ok=True)
    browsable.write_text(to_html(register), encoding="utf-8")
    return page, browsable
