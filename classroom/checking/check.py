"""An exercise: call it with the student's function, it answers with a Verdict.

An Exercise holds cases (arguments and the right answer, from an oracle that is not our solution), hints in a
ladder, and its typical mistakes. A mistake is a small wrong program: where the student's wrong answers are
the wrong program's answers, the mistake is recognised and named, however the student's code is written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from classroom.checking import sandbox
from classroom.checking.answers import first_difference, same_value, show_value
from classroom.checking.printed import Printed
from classroom.checking.restore import restored
from classroom.checking.verdict import Verdict

JUDGING_SECONDS = 60  # our own work on the answers; what they do when they are compared counts too


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


@dataclass
class Trial:
    """What one function did: its answers, the places of the wrong ones, what the first wrong call printed."""

    answers: list = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    output: Printed = field(default_factory=Printed)
    printed: str = ""


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
        """The verdict without counting it: the same for the same function, which leaves no trace behind."""
        with restored():
            cases = self.cases()
            problem = sandbox.call_problem(function, len(cases[0].arguments) + self.added, self.name)
            if problem is None and sandbox.is_stub(function):
                problem = sandbox.Problem("not started", "")
            return self._stopped(problem) if problem else self._try(function, cases)

    def _try(self, function, cases) -> Verdict:
        trial = Trial()
        problem = sandbox.run(function, lambda: self._answer(function, cases, trial), self.seconds)
        if problem is None and all(answer is ... for answer in trial.answers):
            problem = sandbox.Problem("not started", "")
        if problem:
            verdict = replace(self._stopped(problem), printed=trial.output.words())
            return self._at(cases[min(len(trial.answers), len(cases) - 1)], verdict)
        if not trial.wrong:
            return self._passed(len(cases))
        return replace(self._judged(function, cases, trial), printed=trial.printed)

    def _answer(self, function, cases, trial: Trial) -> None:
        """Note an answer for each case. Copies go in, lest a function changes the list of the next."""
        with trial.output.instead_of_the_notebook():  # a print in each of 65,536 calls would bury it
            for place, case in enumerate(cases):
                trial.output.restart()
                answer = self.probe(function, *copy.deepcopy(case.arguments))
                right = self._is_right(case.expected, answer)
                if not (right or trial.wrong):
                    trial.printed = trial.output.words()
                trial.wrong += [] if right else [place]
                trial.answers.append(answer)

    def _is_right(self, expected, got) -> bool:
        try:
            return bool(self.same(expected, got))
        except Exception:  # an answer that cannot be compared is not the right one
            return False

    def _is_alike(self, one, other) -> bool:
        try:
            return bool(self.alike(one, other))
        except Exception:
            return False

    def _show(self, value) -> str:
        try:
            return self.show(value)
        except Exception:
            return show_value(value)

    def _judged(self, function, cases, trial: Trial) -> Verdict:
        """The verdict on wrong answers. Also what a student's `==` and `repr` do is held to a time limit."""
        found: list[Verdict] = []

        def judge():
            with trial.output.instead_of_the_notebook():
                found.append(self._wrong(cases, trial.answers, trial.wrong))

        problem = sandbox.run(function, judge, JUDGING_SECONDS)
        if not problem:
            return found[0]
        case = cases[trial.wrong[0]]
        words = f"{problem.words} That was while your answer was compared with the right one."
        return self._at(case, self._stopped(replace(problem, kind="error", words=words)))

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
        place, expected, got = first_difference(case.expected, got, self._is_right)
        verdict = Verdict(
            exercise=self.name,
            status="wrong",
            title=self.title,
            words=f"{len(cases) - len(wrong):,} of {len(cases):,} cases right. {words}".strip(),
            case=self._call_words(case) + place,
            expected=self._show(expected),
            got=self._show(got),
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
        return sum(self._is_alike(answer, answers[i]) for i, answer in zip(places, told, strict=True))


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
