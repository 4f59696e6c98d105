"""An exercise: the question's data, its truth and its typical mistakes, declared together.

>>> hints = ("What is 3 + 3?", "Add the number to itself.", "`return x + x`.")
>>> double = Exercise("double", "Twice a number", minutes=5, hints=hints)
>>> @double.truth
... def _():
...     return [Case((x,), 2 * x) for x in (1, 2, 3)]
>>> @double.mistake("squared")
... def _(x):
...     '''`x * x` is the square. Add x to itself.'''
...     return x * x

Called with a student's function it answers with a Verdict:

>>> print(double(lambda x: x**2))
✗ Not yet: Twice a number
1 of 3 cases right. Both wrong answers are what a typical mistake gives. `x * x` is the square. Add x to itself.
Call      `double(1)`
Expected  `2`
Got       `1`
For a hint, add `.hint(1)` to the check.

The truth never comes from the code that the exercise trains. A mistake is a small wrong program: if the student's wrong
answers are those of the program, the mistake is named, however the student's code is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

from classroom.checking import sandbox
from classroom.checking.answers import Exact, show_value
from classroom.checking.diagnosis import Answers, Mistake, diagnose
from classroom.checking.printed import Printed
from classroom.checking.restore import restored
from classroom.checking.verdict import Verdict

JUDGING_SECONDS = 60  # our own work on the answers; what they do when they are compared counts too
MOST_ITEMS = 1_000_000  # taken from a generator, which may have no end
PRINTS_KEPT = 20  # wrong calls whose output is remembered


@dataclass(frozen=True)
class Case:
    """One call: its arguments, the right answer, and the call in words (default: `name(arguments)`)."""

    arguments: tuple
    expected: object
    words: str = ""


@dataclass
class Trial:
    """What one function did: its answers, the places of the wrong ones, and what those calls printed."""

    answers: list = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    output: Printed = field(default_factory=Printed)
    printed: dict[int, str] = field(default_factory=dict)


def call(function: Callable, *arguments):
    return function(*arguments)


@dataclass(eq=False)
class Exercise:
    """A check: `verdict = exercise(function)`.

    name: of the function asked for. hints: a ladder, the last of which is the solution. answer: the kind of answer.
    takes: how many arguments the function gets, where the probe gives it others than the case's. too_slow: said when
    the time ran out after some cases. failures: failed checks in a row that were not explained; each shows one hint
    more, but never the last.
    """

    name: str
    title: str
    minutes: int
    hints: tuple[str, ...]
    answer: Exact = field(default_factory=Exact)
    praise: str = ""
    too_slow: str = ""
    seconds: float = 5.0
    takes: int = 0
    ask: Callable = field(default_factory=lambda: call, init=False, repr=False)
    mistakes: list[Mistake] = field(default_factory=list, init=False, repr=False)
    failures: int = field(default=0, init=False, repr=False)

    # ------------------------------------------------------------ what is declared below the question

    def truth(self, make: Callable[[], Iterable[Case]]) -> Callable:
        """Decorator: make() gives the cases. It runs once, when the first check needs it."""
        self._make_cases = make
        return make

    def probe(self, ask: Callable) -> Callable:
        """Decorator: ask(function, *arguments) is the answer to judge, instead of what the function returns."""
        self.ask = ask
        return ask

    def mistake(self, name: str) -> Callable:
        """Decorator of a wrong program; its docstring is what the student reads."""

        def add(program: Callable) -> Callable:
            words = " ".join(inspect.getdoc(program).split())
            self.mistakes.append(Mistake(name, words, program))
            return program

        return add

    @cached_property
    def cases(self) -> list[Case]:
        """The calls and their right answers."""
        return list(self._make_cases())

    # ------------------------------------------------------------ the check

    def __call__(self, function) -> Verdict:
        verdict = self.judge(function)
        if verdict.status in ("passed", "not started"):
            self.failures = 0
        if verdict.status not in ("wrong", "time") or verdict.misconception:
            return verdict  # it says itself what to do next
        self.failures += 1
        before_the_solution = max(0, len(verdict.hints) - 1)
        return replace(verdict, shown=min(self.failures, before_the_solution))

    def judge(self, function) -> Verdict:
        """The verdict without counting it: the same for the same function, which leaves no trace behind."""
        with restored():
            cases = self.cases
            problem = sandbox.call_problem(function, self.takes or len(cases[0].arguments), self.name)
            if problem is None and sandbox.is_stub(function):
                problem = sandbox.Problem("not started", "")
            return self._stopped(problem) if problem else self._try(function, cases)

    def _try(self, function, cases) -> Verdict:
        trial = Trial()
        problem = sandbox.run(function, lambda: self._answer(function, cases, trial), self.seconds)
        if problem is None and all(answer is ... for answer in trial.answers):
            problem = sandbox.Problem("not started", "")
        if problem:
            done = len(trial.answers)
            verdict = replace(self._stopped(problem, done), printed=trial.output.words())
            return self._at(cases[min(done, len(cases) - 1)], verdict)
        if not trial.wrong:
            return self._passed(len(cases))
        return self._judged(function, cases, trial)

    def _answer(self, function, cases, trial: Trial) -> None:
        """Note an answer for each case. Copies go in, so that a function cannot change the list of the next one."""
        with trial.output.instead_of_the_notebook():  # a print in each of 65,536 calls would bury it
            for place, case in enumerate(cases):
                trial.output.restart()
                answer = self._told(function, case)
                if not self._is_right(case.expected, answer):
                    trial.wrong.append(place)
                    if len(trial.wrong) <= PRINTS_KEPT:
                        trial.printed[place] = trial.output.words()
                trial.answers.append(answer)

    def _told(self, program, case: Case):
        """What a program answers to a case. A generator is a list not yet made."""
        answer = self.ask(program, *copied(case.arguments))
        return list(islice(answer, MOST_ITEMS)) if isinstance(answer, (Iterator, range)) else answer

    def _is_right(self, expected, got) -> bool:
        try:
            return bool(self.answer.right(expected, got))
        except Exception:  # an answer that cannot be compared is not the right one
            return False

    def _is_alike(self, mistaken, got) -> bool:
        try:
            return bool(self.answer.alike(mistaken, got))
        except Exception:
            return False

    def _show(self, value) -> str:
        try:
            return self.answer.show(value)
        except Exception:
            return show_value(value)

    def _judged(self, function, cases, trial: Trial) -> Verdict:
        """The verdict on wrong answers. What a student's `==` and `repr` do is held to a time limit too."""
        found: list[Verdict] = []

        def judge():
            with trial.output.instead_of_the_notebook():
                found.append(self._wrong(cases, trial))

        problem = sandbox.run(function, judge, JUDGING_SECONDS)
        if not problem:
            return found[0]
        words = f"{problem.words} That was while your answer was compared with the right one."
        verdict = self._stopped(replace(problem, kind="error", words=words))
        return self._at(cases[trial.wrong[0]], verdict)

    def _wrong(self, cases, trial: Trial) -> Verdict:
        answers = Answers(
            expected=[case.expected for case in cases],
            given=trial.answers,
            wrong=trial.wrong,
            told=lambda program, place: self._told(program, cases[place]),
            alike=self._is_alike,
        )
        diagnosis = diagnose(self.mistakes, answers)
        case, got = cases[diagnosis.place], trial.answers[diagnosis.place]
        place, expected, got = self._first_difference(case.expected, got)
        expected, got = self._told_apart(expected, got)
        right = len(cases) - len(trial.wrong)
        verdict = Verdict(
            exercise=self.name,
            status="wrong",
            title=self.title,
            words=f"{right:,} of {len(cases):,} cases right. {diagnosis.words}".strip(),
            case=_entry(self._call_words(case), place),
            expected=expected,
            got=got,
            hints=self.hints,
            misconception=diagnosis.name,
            printed=trial.printed.get(diagnosis.place, ""),
        )
        return self._at(case, verdict)

    def _first_difference(self, expected, got) -> tuple[str, object, object]:
        try:
            return self.answer.first_difference(expected, got)
        except Exception:  # the answer cannot be compared
            return "", expected, got

    def _told_apart(self, expected, got) -> tuple[str, str]:
        """Both in words; with their types where the words are the same."""
        one, other = self._show(expected), self._show(got)
        if one == other:
            return f"{one} ({type(expected).__name__})", f"{other} ({type(got).__name__})"
        return one, other

    # ------------------------------------------------------------ verdicts

    def _at(self, case: Case, verdict: Verdict) -> Verdict:
        """The verdict with the call it is about; a stub is about none."""
        if verdict.status == "not started":
            return verdict
        written_out = all(isinstance(argument, (int, float, str)) for argument in case.arguments)
        arguments = None if written_out or self.takes else copied(case.arguments)
        return replace(verdict, case=verdict.case or self._call_words(case), arguments=arguments)

    def _call_words(self, case: Case) -> str:
        return case.words or f"{self.name}({', '.join(map(show_value, case.arguments))})"

    def _passed(self, total: int) -> Verdict:
        words = f"{total:,} of {total:,} cases right. {self.praise}".strip()
        return Verdict(self.name, "passed", self.title, words)

    def _stopped(self, problem: sandbox.Problem, done: int = 0) -> Verdict:
        """The verdict on a call that gave no answer, after `done` calls that did."""
        if problem.kind == "not started":
            words = (
                f"Write `{self.name}` in the cell above, run that cell, then run this one again. "
                f"It takes about {self.minutes} minutes."
            )
            return Verdict(self.name, "not started", self.title, words)
        words = problem.words
        if problem.kind == "time" and done:  # a first call that never ends has other reasons
            words = f"{words} {self.too_slow}".strip()
        return Verdict(self.name, problem.kind, self.title, words, line=problem.line, hints=self.hints)


def copied(arguments: tuple) -> tuple:
    """Arguments that a function may change at will. Numbers and text cannot be changed, and need no copy."""
    if all(isinstance(argument, (int, float, str)) for argument in arguments):
        return arguments
    return deepcopy(arguments)


def _entry(call: str, place: str) -> str:
    """`ones(4)[2]` for a call as Python writes it, else `five steps, entry [2]`."""
    if not place or call.endswith(")"):
        return call + place
    return f"{call}, entry {place}"
