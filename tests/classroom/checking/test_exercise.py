"""An exercise judges what a function answers: cases, first failure, hints one by one, the nearest typical mistake."""

import doctest
import os
import random

import numpy as np
import pytest
import torch

from classroom.checking import exercise as exercise_module
from classroom.checking.answers import Close, Fields
from classroom.checking.diagnosis import Mistake
from classroom.checking.exercise import Case, Exercise

MISTAKES = (
    Mistake("squared", "x * x is the square.", lambda x: x * x),
    Mistake("plus two", "x + 2 is right only for 2.", lambda x: x + 2),
)


def make(cases=lambda: [Case((x,), 2 * x) for x in (1, 2, 3, 10)], mistakes=MISTAKES, **changes):
    settings = {
        "name": "double",
        "title": "Twice",
        "minutes": 5,
        "hints": ("Add it to itself.", "x + x", "return x + x"),
        "praise": "Well seen.",
    }
    exercise = Exercise(**(settings | changes))
    exercise.truth(cases)
    exercise.mistakes += mistakes
    return exercise


def test_the_example_of_the_module_runs():
    assert doctest.testmod(exercise_module).failed == 0


def test_right_answers_pass():
    verdict = make()(lambda x: x + x)
    assert verdict.passed
    assert str(verdict) == "✓ Passed: Twice\n4 of 4 cases right. Well seen."


def test_the_first_failing_case_is_shown():
    verdict = make()(lambda x: 2 * x if x < 3 else 7)
    assert (verdict.case, verdict.expected, verdict.got) == ("double(3)", "6", "7")
    assert verdict.words == "2 of 4 cases right."
    assert verdict.misconception is None


def test_a_mistake_is_named_by_its_answers():
    def square(x):
        result = x
        for _ in range(x - 1):
            result += x
        return result

    verdict = make()(square)
    assert verdict.misconception == "squared"
    assert "All 3 wrong answers are what a typical mistake gives. x * x is the square." in verdict.words


def ten(**changes):
    return make(cases=lambda: [Case((x,), 2 * x) for x in range(1, 12) if x != 2], **changes)


def test_nine_wrong_answers_in_ten_are_enough_and_say_so():
    verdict = ten()(lambda x: x * x if x < 11 else 0)
    assert "9 of the 10 wrong answers are what a typical mistake gives." in verdict.words
    assert verdict.misconception == "squared"


def test_eight_wrong_answers_in_ten_are_not_enough():
    assert ten()(lambda x: x * x if x < 10 else 0).misconception is None


def test_a_mistake_that_contradicts_a_right_answer_is_not_named():
    """Both wrong answers are squares, but 3 is doubled rightly: who squares would not have got that."""
    assert make()(lambda x: 2 * x if x == 3 else x * x).misconception is None


def test_of_thousands_of_right_answers_one_in_a_hundred_may_contradict():
    """A zero, or another special value, is often treated by itself."""

    def many():
        return [Case((x,), 2 * x) for x in range(1000)]

    mistake = Mistake("one too many", "Zero is special.", lambda x: 2 * x + 1 if x % 2 == 0 else 2 * x)
    verdict = make(cases=many, mistakes=(mistake,))(lambda x: 0 if x == 0 else mistake.program(x))
    assert verdict.misconception == "one too many"


def test_the_case_that_is_shown_is_one_that_the_words_explain():
    """The first wrong answer is another one than the mistake's."""
    verdict = ten()(lambda x: 99 if x == 1 else x * x)
    assert verdict.misconception == "squared" and verdict.case == "double(3)"


def test_of_two_mistakes_the_one_that_also_fits_the_right_answers():
    """Both give 0 for the wrong case; only the second is right where the student is."""
    first = Mistake("always 0", "It is not always 0.", lambda x: 0)
    second = Mistake("0 for ten", "Ten is not 0.", lambda x: 0 if x == 10 else 2 * x)
    assert make(mistakes=(first, second))(lambda x: 2 * x * (x != 10)).misconception == "0 for ten"


def test_hints_come_one_by_one_and_the_solution_only_on_demand():
    exercise = make()
    shown = [exercise(lambda x: -1).shown for _ in range(5)]
    assert shown == [1, 2, 2, 2, 2]
    verdict = exercise(lambda x: -1)
    assert "return x + x" not in str(verdict)
    assert "The last hint is the solution: add `.hint(3)` to the check to see it." in str(verdict)
    assert "Hint 3: return x + x" in str(verdict.hint(3))
    assert exercise(lambda x: 2 * x).shown == 0
    assert exercise(lambda x: -1).shown == 1, "passing starts the ladder again"


@pytest.mark.parametrize("hints", [(), ("The only one is the solution.",)])
def test_a_ladder_may_be_short(hints):
    assert make(hints=hints)(lambda x: -1).shown == 0


def test_a_mistake_that_was_named_or_an_error_shows_no_hint():
    """The words say what to do; a hint about something else would lead away from it."""
    exercise = make()
    assert exercise(lambda x: x * x).shown == 0
    assert exercise(lambda x: 1 / 0).shown == 0
    assert exercise.failures == 0
    assert "For a hint, add `.hint(1)` to the check." in str(exercise(lambda x: x * x))


def test_a_stub_is_kindly_told_and_not_counted():
    def double(x):
        """Twice x."""
        # your code here

    exercise = make()
    verdict = exercise(double)
    assert verdict.status == "not started"
    assert verdict.shown == 0
    assert exercise.failures == 0
    assert exercise(lambda x: ...).status == "not started"


def test_a_missing_return_is_told():
    def double(x):
        x + x

    verdict = make()(double)
    assert "returns None every time: is a `return` missing?" in verdict.words
    assert verdict.misconception == "nothing returned"


def test_calling_it_wrongly_is_not_counted():
    exercise = make()
    assert exercise(lambda: 1).status == "call"
    assert "hint" not in str(exercise(2)), "how to call it is not a question of the exercise"
    assert exercise(2).status == "call"
    assert exercise.failures == 0


def test_an_error_shows_the_case_and_keeps_the_ladder():
    verdict = make()(lambda x: 1 / (x - 3) * 0 + 2 * x)
    assert verdict.status == "error"
    assert verdict.case == "double(3)"
    assert verdict.shown == 0


def test_prints_of_the_function_are_not_shown(capsys):
    def chatty(x):
        print("x is", x)
        return 2 * x

    assert make()(chatty).passed
    assert capsys.readouterr().out == ""


def test_a_function_that_changes_its_input_changes_only_its_own():
    exercise = make(name="total", cases=lambda: CASES, mistakes=())

    def total(values):
        result = 0
        while values:
            result += values.pop()
        return result

    for _ in range(2):
        assert exercise(total).passed
    assert CASES[0].arguments == ([1, 2, 3],)


CASES = [Case(([1, 2, 3],), 6, "total(three numbers)"), Case(([],), 0)]


def test_inputs_that_are_not_written_out_can_be_tried_again():
    verdict = make(name="total", cases=lambda: CASES, mistakes=())(lambda values: -1)
    assert verdict.case == "total(three numbers)"
    assert verdict.arguments == ([1, 2, 3],)
    assert "To try this call yourself: `total(*verdict.arguments)`." in str(verdict)
    assert make()(lambda x: -1).arguments is None


def test_of_two_lists_the_first_difference_is_shown():
    exercise = make(name="ones", cases=lambda: [Case((4,), [1.0] * 4)], mistakes=())
    verdict = exercise(lambda n: [1.0, 1.0, 2.0, 1.0])
    assert (verdict.case, verdict.expected, verdict.got) == ("ones(4)[2]", "1.0", "2.0")
    assert exercise(lambda n: [1.0]).case == "ones(4)"


def test_an_entry_of_a_call_in_words_is_not_an_index_into_its_last_number():
    exercise = make(cases=lambda: [Case((4,), [1.0] * 4, "ones, at most 0.1")], mistakes=())
    assert exercise(lambda n: [1.0, 2.0, 1.0, 1.0]).case == "ones, at most 0.1, entry [1]"


def test_a_generator_is_a_list():
    exercise = make(cases=lambda: [Case((3,), [0, 1, 2])], mistakes=())
    assert exercise(lambda n: (i for i in range(n))).passed
    assert exercise(range).passed


def test_text_is_quoted():
    exercise = make(cases=lambda: [Case((1,), torch.float16)], mistakes=())
    verdict = exercise(lambda x: str(torch.float16))
    assert (verdict.expected, verdict.got) == ("torch.float16", "'torch.float16'")


class Five(int):
    """Equal to nothing, and looks like 5."""

    def __eq__(self, other):
        return False

    __hash__ = int.__hash__


def test_equal_looks_say_the_types():
    verdict = make(cases=lambda: [Case((1,), 5)], mistakes=())(lambda x: Five(5))
    assert (verdict.expected, verdict.got) == ("5 (int)", "5 (Five)")


SHARES = [Case((x,), x / 8) for x in (1, 2, 3)]


@pytest.mark.parametrize(
    ("cases", "function", "name"),
    [
        (SHARES, lambda x: str(x / 8), "text returned"),
        (SHARES, lambda x: 100 * x / 8, "in per cent"),
        (SHARES, lambda x: round(100 * x / 8, 2), "in per cent"),
        ([Case((1,), [1, 2, 3])], lambda x: [1, 2], "wrong length"),
        ([Case((1,), torch.float16)], lambda x: "torch.float16", "text returned"),
    ],
)
def test_faults_of_any_exercise_have_a_name(cases, function, name):
    verdict = make(cases=lambda: cases, mistakes=(), answer=Close(1e-6))(function)
    assert verdict.misconception == name and verdict.shown == 0


def test_a_probe_asks_in_its_own_way():
    exercise = make(takes=2, answer=Fields(sum=Close(1e-9), type=Close()), mistakes=())
    exercise.truth(lambda: [Case((1,), (3, "int"))])

    @exercise.probe
    def twice(function, x):
        answer = function(x, x + 1)
        return answer, type(answer).__name__

    assert exercise(lambda a, b: a + b).passed
    assert exercise(lambda a: a).status == "call"
    verdict = exercise(lambda a, b: a - b)
    assert (verdict.expected, verdict.got) == ("sum 3; type 'int'", "sum -1; type 'int'")


def test_the_truth_is_made_once_and_a_mistakes_words_are_its_docstring():
    exercise, made = make(mistakes=()), []

    @exercise.truth
    def _():
        made.append(1)
        yield Case((3,), 6)

    @exercise.mistake("squared")
    def _(x):
        """The square
        of x."""
        return x * x

    assert [exercise(lambda x: 9).words for _ in range(2)] == [
        "0 of 1 cases right. The wrong answer is what a typical mistake gives. The square of x."
    ] * 2
    assert made == [1]


def test_too_slow_is_explained_only_after_a_case_that_ended():
    exercise = make(seconds=0.1, too_slow="Counting takes years.")

    def never(x):
        while True:
            pass

    assert "years" not in exercise(never).words
    assert "years" in exercise(lambda x: 2 if x == 1 else never(x)).words


# ---------------------------------------------------------------- answers that fight back


class Hostile:
    """An answer whose every use raises `error`."""

    def __init__(self, error):
        self.error = error

    def _raise(self, *_):
        raise self.error

    __eq__ = __repr__ = __float__ = __bool__ = tolist = _raise
    __hash__ = None


def endless_list(x):
    values = [x]
    values.append(values)
    return values


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit, RecursionError])
def test_an_answer_that_raises_when_it_is_used_is_not_right(error):
    verdict = make()(lambda x: Hostile(error))
    assert verdict.status in ("wrong", "error") and verdict.case == "double(1)"
    assert "Traceback" not in str(verdict)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: 10**5000,
        endless_list,
        lambda x: torch.empty(2, device="meta"),
        lambda x: [Hostile(ValueError)],
    ],
    ids=["5001 digits", "holds itself", "meta", "hostile"],
)
def test_an_answer_that_cannot_be_printed_is_wrong_in_words(answer):
    verdict = make()(answer)
    assert (verdict.status, verdict.case, verdict.expected) == ("wrong", "double(1)", "2") and verdict.got


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_answer_that_ends_the_program_when_it_is_printed_is_stopped(error):
    class Wrong:
        def __repr__(self):
            raise error

    verdict = make()(lambda x: Wrong())
    assert (verdict.status, verdict.case) == ("error", "double(1)")
    assert "while your answer was compared with the right one" in verdict.words


def test_an_answer_that_never_lets_itself_be_compared_is_stopped():
    class Endless:
        def __eq__(self, other):
            while True:
                pass

        __hash__ = None

    assert make(seconds=0.1)(lambda x: Endless()).status == "time"


# ---------------------------------------------------------------- what a function leaves behind


def test_the_first_failing_call_shows_what_it_printed(capsys):
    def chatty(x):
        print("x is", x)
        return 7

    verdict = make()(lambda x: 2 * x if x < 3 else chatty(x))
    assert verdict.printed == "x is 3"
    assert "Your function printed in this call:\nx is 3" in str(verdict)
    assert "x is 3" not in str(verdict.record()), "a grader's table stays small"
    assert capsys.readouterr().out == ""


def test_an_error_shows_what_its_call_printed():
    def chatty(x):
        print("x is", x)
        return 1 / (x - 3) * 0 + 2 * x

    assert make()(chatty).printed == "x is 3"


def test_endless_printing_is_cut():
    def shouts(x):
        for _ in range(1000):
            print("x" * 1000)

    verdict = make()(shouts)
    assert len(verdict.printed) < 2100 and verdict.printed.endswith("... 999,000 more characters")


def test_a_function_leaves_no_trace(tmp_path):
    """The next cell must not feel what a function under check has set."""

    def settings():
        return (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), os.getcwd(),
                np.geterr(), torch.get_rng_state().sum(), random.getstate(),
                np.random.get_state()[1].sum())  # fmt: skip

    def meddles(x):
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(False)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.manual_seed(x)
        random.seed(x)
        np.random.seed(x)
        np.seterr(all="ignore")
        os.chdir(tmp_path)
        return 2 * x

    before = settings()
    assert make()(meddles).passed
    assert settings() == before
