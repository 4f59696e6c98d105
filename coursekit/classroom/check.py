"""An exercise: call it with the student's function, it answers with a Verdict.

An Exercise holds cases (arguments and the right answer, from an oracle that is not our solution), hints in a
ladder, and its typical mistakes. A mistake is a small wrong program: where the student's wrong answers are
the wrong program's answers, the mistake is recognised and named, however the student's code is written.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace

from coursekit.classroom import sandbox
from coursekit.classroom.answers import first_difference, same_value, show_value
from coursekit.classroom.verdict import Verdict


@dataclass(frozen=True)
class Case:
    """One call: its arguments, the right answer, and the call in words (default: `name(arguments)`)."""

    arguments: tuple
    expected: object
    words: str = ""


@dataclass(frozen=True)
class Mistake:
    """`program` answers as somebody who makes this mistake; `words` say what it is and where to look."""

    name: str
    words: str
    program: Callable


def call(function: Callable, *arguments):
    return function(*arguments)


@dataclass
class Exercise:
    """A check: `verdict = exercise(function)`.

    name: of the function asked for. cases(): the calls, made when first needed. probe(function, *arguments):
    the answer to judge, by default what the function returns; added: how many arguments it adds to a case's.
    same(expected, got): is it right? alike(a, b): do two answers come from the same mistake? show(value): an
    answer in words. failures: failed checks in a row, each of which shows one more hint.
    """

    name: str
    title: str
    minutes: int
    cases: Callable[[], list[Case]]
    hints: tuple[str, ...]
    mistakes: tuple[Mistake, ...] = ()
    praise: str = ""
    too_slow: str = ""
    seconds: float = 5.0
    probe: Callable = call
    added: int = 0
    same: Callable = same_value
    alike: Callable = same_value
    show: Callable = show_value
    failures: int = field(default=0, repr=False)

    def __call__(self, function) -> Verdict:
        verdict = self.judge(function)
        if verdict.status == "call":  # about brackets and arguments, not about the exercise
            return verdict
        self.failures = 0 if verdict.status in ("passed", "not started") else self.failures + 1
        return replace(verdict, shown=min(self.failures, len(verdict.hints)))

    def judge(self, function) -> Verdict:
        """The verdict without counting it: the same for the same function."""
        cases = self.cases()
        problem = sandbox.call_problem(function, len(cases[0].arguments) + self.added, self.name)
        if problem is None and sandbox.is_stub(function):
            problem = sandbox.Problem("not started", "")
        if problem:
            return self._stopped(problem)
        answers: list = []
        problem = sandbox.run(function, lambda: self._answer(function, cases, answers), self.seconds)
        if problem is None and all(answer is ... for answer in answers):
            problem = sandbox.Problem("not started", "")
        if problem:
            return self._at(cases[min(len(answers), len(cases) - 1)], self._stopped(problem))
        wrong = [i for i, case in enumerate(cases) if not self.same(case.expected, answers[i])]
        return self._wrong(cases, answers, wrong) if wrong else self._passed(len(cases))

    def _answer(self, function, cases, answers: list) -> None:
        """Append an answer for each case. Copies go in, lest a function changes the list of the next."""
        with redirect_stdout(io.StringIO()):  # a print in each of 65,536 calls would bury the notebook
            for case in cases:
                answers.append(self.probe(function, *copy.deepcopy(case.arguments)))

    def _at(self, case: Case, verdict: Verdict) -> Verdict:
        """The verdict with the call it is about; a stub is about none."""
        if verdict.status == "not started":
            return verdict
        written_out = all(isinstance(argument, (int, float)) for argument in case.arguments)
        arguments = None if written_out else copy.deepcopy(case.arguments)
        return replace(verdict, case=verdict.case or self._call_words(case), arguments=arguments)

    def _call_words(self, case: Case) -> str:
        return case.words or f"{self.name}({', '.join(map(show_value, case.arguments))})"

    def _passed(self, total: int) -> Verdict:
        return Verdict(
            self.name, "passed", self.title, f"{total:,} of {total:,} cases right. {self.praise}".strip()
        )

    def _stopped(self, problem: sandbox.Problem) -> Verdict:
        if problem.kind == "not started":
            words = (
                f"Write `{self.name}` in the cell above, run that cell, then run this one again. "
                f"It takes about {self.minutes} minutes."
            )
            return Verdict(self.name, "not started", self.title, words)
        words = f"{problem.words} {self.too_slow if problem.kind == 'time' else ''}".strip()
        return Verdict(self.name, problem.kind, self.title, words, line=problem.line, hints=self.hints)

    def _wrong(self, cases, answers, wrong: list[int]) -> Verdict:
        mistake, words = self._explain(cases, answers, wrong)
        case, got = cases[wrong[0]], answers[wrong[0]]
        place, expected, got = first_difference(case.expected, got, self.same)
        verdict = Verdict(
            exercise=self.name,
            status="wrong",
            title=self.title,
            words=f"{len(cases) - len(wrong):,} of {len(cases):,} cases right. {words}".strip(),
            case=self._call_words(case) + place,
            expected=self.show(expected),
            got=self.show(got),
            hints=self.hints,
            misconception=mistake.name if mistake else None,
        )
        return self._at(case, verdict)

    def _explain(self, cases, answers, wrong: list[int]) -> tuple[Mistake | None, str]:
        """The typical mistake that gives most of the wrong answers, if it gives at least half of them."""
        if all(answer is None for answer in answers):
            return None, "Your function returns None every time: is a `return` missing?"
        counts = [self._count_alike(mistake, cases, answers, wrong) for mistake in self.mistakes]
        most = max(counts, default=0)
        if most * 2 < len(wrong) or not most:
            return None, ""
        candidates = [mistake for mistake, count in zip(self.mistakes, counts, strict=True) if count == most]
        mistake = self._closest(candidates, cases, answers, set(wrong))
        return mistake, f"{_share(most, len(wrong))} what a typical mistake gives. {mistake.words}"

    def _closest(self, candidates, cases, answers, wrong: set[int]) -> Mistake:
        """Of mistakes that explain the wrong answers equally well, the one nearest to the right ones too."""
        if len(candidates) == 1:
            return candidates[0]
        right = [i for i in range(len(cases)) if i not in wrong][:1000]
        return max(candidates, key=lambda mistake: self._count_alike(mistake, cases, answers, right))

    def _count_alike(self, mistake: Mistake, cases, answers, places: list[int]) -> int:
        told = (self.probe(mistake.program, *copy.deepcopy(cases[i].arguments)) for i in places)
        return sum(bool(self.alike(answer, answers[i])) for i, answer in zip(places, told, strict=True))


def _share(count: int, total: int) -> str:
    if total == 1:
        return "The wrong answer is"
    if count == total == 2:
        return "Both wrong answers are"
    return (
        f"All {total:,} wrong answers are"
        if count == total
        else f"{count:,} of the {total:,} wrong answers are"
    )
