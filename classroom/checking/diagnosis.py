"""Which mistake explains the wrong answers?

A mistake is named only if its program gives at least nine wrong answers in ten, and does not contradict the right
ones: where the student is right, the program of the student's mistake is right too (in a hundred right answers one
may be an exception, such as a zero treated by itself). A false name sends a student the wrong way; no name costs a
hint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from classroom.checking.answers import is_number, plain, show_value

MOST_JUDGED = 2000  # right answers that a mistake is compared with
FIRST_LOOK = 100  # wrong answers that tell whether it is worth while to run a mistake on all of them


@dataclass(frozen=True)
class Mistake:
    """`program` answers as a student who makes this mistake; `words` say what it is and where to look."""

    name: str
    words: str
    program: Callable


@dataclass(frozen=True)
class Diagnosis:
    """What went wrong: the mistake's name (None if unknown), in words, and the place of a case that shows it."""

    name: str | None
    words: str
    place: int


@dataclass(frozen=True)
class Answers:
    """A student's answers to all cases. `wrong`: the places of the wrong ones.

    told(program, place): what a program answers to that case. alike(a, b): do two answers come from one mistake?
    """

    expected: list
    given: list
    wrong: list[int]
    told: Callable
    alike: Callable

    @property
    def right(self) -> list[int]:
        """Return the places of the right answers; if there are many, of an evenly spread sample."""
        wrong = set(self.wrong)
        return spread([place for place in range(len(self.given)) if place not in wrong], MOST_JUDGED)

    def alike_at(self, program: Callable, places: list[int]) -> list[int]:
        """The places at which the program gives the student's answer."""
        return [place for place in places if self.alike(self.told(program, place), self.given[place])]


def diagnose(mistakes: list[Mistake], answers: Answers) -> Diagnosis:
    """The mistake that explains the wrong answers; where none does, the first wrong answer without a name."""
    wrong, right = answers.wrong, answers.right
    if all(answer is None for answer in answers.given):
        words = "Your function returns None every time: is a `return` missing?"
        return Diagnosis("nothing returned", words, wrong[0])
    best: tuple[int, Mistake, list[int]] | None = None
    for mistake in mistakes:
        first = spread(wrong, FIRST_LOOK)
        if 2 * len(answers.alike_at(mistake.program, first)) < len(first):
            continue  # far from nine in ten: with 65,536 cases this saves seconds
        explained = answers.alike_at(mistake.program, wrong)
        if not is_most(len(explained), len(wrong)):
            continue
        agreeing = len(answers.alike_at(mistake.program, right))
        if (len(right) - agreeing) * 100 > len(right):
            continue
        score = len(explained) + agreeing
        if best is None or score > best[0]:
            best = score, mistake, explained
    if best:
        _, mistake, explained = best
        words = f"{_share(len(explained), len(wrong))} what a typical mistake gives. {mistake.words}"
        return Diagnosis(mistake.name, words, explained[0])
    return _general(answers)


def spread(places: list[int], count: int) -> list[int]:
    """All places, or a sample of at least `count` of them at even distances."""
    return places[:: max(1, len(places) // count)]


def is_most(count: int, total: int) -> bool:
    """Are `count` of `total` nine in ten, or more?"""
    return 0 < total * 9 <= count * 10


def _general(answers: Answers) -> Diagnosis:
    """A fault that can be seen without knowing the exercise."""
    lengths = {len(answer) for answer in answers.expected if isinstance(answer, (list, tuple))}
    for name, fault in GENERAL.items():
        if fault is _length and len(lengths) > 1:
            continue  # where right answers have many lengths, the length is a matter of the exercise
        said = {place: _said(fault, answers.expected[place], answers.given[place]) for place in answers.wrong}
        places = [place for place, words in said.items() if words]
        if is_most(len(places), len(answers.wrong)):
            return Diagnosis(name, said[places[0]], places[0])
    return Diagnosis(None, "", answers.wrong[0])


def _said(fault: Callable, expected, got) -> str:
    try:
        return fault(plain(expected), plain(got))
    except Exception:  # an answer that cannot be looked at
        return ""


def _text(expected, got) -> str:
    if not isinstance(got, str) or isinstance(expected, str):
        return ""
    if is_number(expected):
        return f"Your function returns text, {show_value(got)}: return the number itself."
    return f"Your function returns text, {show_value(got)}: return a value of type {type(expected).__name__}."


def _per_cent(expected, got) -> str:
    if not is_number(expected) or not is_number(got) or not 0 < expected <= 1:
        return ""
    if abs(got - 100 * expected) > 0.01 * expected:  # many round a percentage to two digits
        return ""
    return f"These are per cent: the exercise asks for a share, {expected:.4g} and not {got:.4g}."


def _length(expected, got) -> str:
    if not isinstance(expected, (list, tuple)) or not isinstance(got, (list, tuple)):
        return ""
    if len(expected) == len(got):
        return ""
    values = "value" if len(got) == 1 else "values"
    return f"Your function returns {len(got):,} {values} where {len(expected):,} are expected."


GENERAL = {"text returned": _text, "in per cent": _per_cent, "wrong length": _length}


def _share(count: int, total: int) -> str:
    if total == 1:
        return "The wrong answer is"
    if count == total == 2:
        return "Both wrong answers are"
    if count == total:
        return f"All {total:,} wrong answers are"
    return f"{count:,} of the {total:,} wrong answers are"
