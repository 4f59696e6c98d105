"""The verdict of a check: passed or not, expected and got, hints in a ladder, the typical mistake."""

from __future__ import annotations

from dataclasses import dataclass, replace

from classroom.checking.card import Card, Code, Items, Paragraph, Table

VERDICT_MIME = "application/vnd.coursekit.verdict+json"

#           status        kind of card, word
STATUSES = {
    "passed": ("pass", "Passed"),
    "wrong": ("fail", "Not yet"),
    "not started": ("todo", "Not started yet"),
    "error": ("fail", "Stopped by an error"),
    "time": ("fail", "Took too long"),
    "call": ("fail", "Cannot be called"),
}


@dataclass(frozen=True)
class Verdict:
    """What a check says. `status` is a key of STATUSES.

    `case`, `expected` and `got` tell of a case that failed, one that `words` explain; `arguments` are its
    inputs, where the case does not write them out. `line` is the student's own line where an error came from.
    `hints` is the whole ladder, `shown` how many of its rungs the card shows. `misconception` names the mistake
    that was recognised. `printed` is the beginning of what the function printed in this call.
    """

    exercise: str
    status: str
    title: str
    words: str = ""
    case: str = ""
    expected: str = ""
    got: str = ""
    line: str = ""
    arguments: tuple | None = None
    hints: tuple[str, ...] = ()
    shown: int = 0
    misconception: str | None = None
    printed: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def hint(self, n: int | None = None) -> Verdict:
        """The same verdict with the first n hints showing; without n, with one more.

        Raises ValueError if the ladder has no such rung.
        """
        n = min(self.shown + 1, len(self.hints)) if n is None else n
        if not 1 <= n <= len(self.hints):
            raise ValueError(f"this verdict has {len(self.hints)} hints; hint({n}) is not one of them.")
        return replace(self, shown=n)

    def card(self) -> Card:
        kind, word = STATUSES[self.status]
        parts = [Paragraph(self.words)] if self.words else []
        if self.line:
            parts.append(Paragraph(f"Your {self.line}"))
        if self.case:
            parts.append(Table(self._facts()))
        if self.printed:
            parts += [Paragraph("Your function printed in this call:"), Code(self.printed)]
        if self.arguments:
            parts.append(
                Paragraph(f"To try this call yourself: `{self.exercise}(*verdict.arguments)`.", soft=True)
            )
        if self.shown:
            parts.append(Items(self.hints[: self.shown], "Hint"))
        if self.hints and self.status in ("wrong", "error", "time"):
            parts.append(Paragraph(self._what_is_left(), soft=True))
        return Card(kind, word, self.title, tuple(parts))

    def _what_is_left(self) -> str:
        """How to get the next hint. The last one is the solution: it is shown only to those who ask."""
        next_one = self.shown + 1
        left = len(self.hints) - self.shown
        if not left:
            return "That was the last hint."
        if left == 1:
            return f"The last hint is the solution: add `.hint({next_one})` to the check to see it."
        if not self.shown:
            return f"For a hint, add `.hint({next_one})` to the check."
        return f"{left} more hints: check another try, or add `.hint({next_one})` to the check."

    def _facts(self) -> tuple[tuple[str, str], ...]:
        facts = (("Call", self.case), ("Expected", self.expected), ("Got", self.got))
        return tuple((name, f"`{value}`") for name, value in facts if value)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        return {**self.card()._repr_mimebundle_(), VERDICT_MIME: self.record()}

    def record(self) -> dict[str, object]:
        """What a grader's table needs, as plain JSON."""
        names = (
            "exercise",
            "status",
            "passed",
            "title",
            "case",
            "expected",
            "got",
            "line",
            "misconception",
            "shown",
        )
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return self.card().text()

    __repr__ = __str__
