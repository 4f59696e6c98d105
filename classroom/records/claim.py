"""A row of the claims register: what others say, beside the function that computes the right figure.

A claim lives in `classroom/lectures/word/claims.py`, as a decorated function:

    @claim("HU2", said="...", where="...", verdict="imprecise", right="It is {stored}.",
           figures={"stored": 1.0}, source="torch.float16")
    def one_and_a_ten_thousandth():
        return {"stored": float(torch.tensor(1.0001, dtype=torch.float16))}

`figures` holds what the audit says; the function returns what this machine computes. `mismatches` compares the two,
and the page prints the computed ones. A claim that no program can decide is `cited`: it names a document and has no
figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

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
            raise ValueError(f"claim {self.id}: a computed claim needs `figures` to be compared with.")
        if not self.compute and not self.source:
            raise ValueError(f"claim {self.id}: a claim without a function needs a source to cite.")

    @cached_property
    def computed(self) -> Mapping[str, float]:
        """The figures that this machine computes, computed once."""
        return self.compute() if self.compute else {}

    def right_sentence(self) -> str:
        """Return `right` with the figures that this machine computes."""
        return self.right.format(**self.computed) if self.compute else self.right


def claim(id: str, **facts) -> Callable[[Callable], Claim]:
    """Decorate the function that computes the figures: it becomes a Claim."""
    return lambda compute: Claim(id=id, compute=compute, **facts)


def cited(id: str, **facts) -> Claim:
    """Return a claim that a document decides, and not a program."""
    return Claim(id=id, **facts)


def mismatches(row: Claim) -> list[str]:
    """Return one sentence per figure that does not come out as audited."""
    if row.compute is None:
        return []
    got = row.computed
    if got.keys() != row.figures.keys():
        return [f"{row.id}: the audit lists {sorted(row.figures)}, the function computes {sorted(got)}."]
    return [
        f"{row.id}: {name} came out as {got[name]!r}, should be {expected!r}."
        for name, expected in row.figures.items()
        if not same(got[name], expected, row.tolerance)
    ]


def same(got, expected, tolerance: float) -> bool:
    if isinstance(expected, str) or not tolerance:
        return got == expected
    return math.isclose(got, expected, rel_tol=tolerance)
