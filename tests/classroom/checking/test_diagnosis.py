"""A mistake is named if it explains nine wrong answers in ten and contradicts no right one."""

import pytest

from classroom.checking.diagnosis import Answers, Mistake, diagnose, is_most, spread

SQUARED = Mistake("squared", "That is the square.", lambda x: x * x)
PLUS_TWO = Mistake("plus two", "That is two more.", lambda x: x + 2)


def answers_of(program, cases=range(1, 12), truth=lambda x: 2 * x):
    expected = [truth(x) for x in cases]
    given = [program(x) for x in cases]
    return Answers(
        expected=expected,
        given=given,
        wrong=[place for place, (a, b) in enumerate(zip(expected, given, strict=True)) if a != b],
        told=lambda mistake, place: mistake(cases[place]),
        alike=lambda a, b: a == b,
    )


def name_of(program, **cases):
    return diagnose([PLUS_TWO, SQUARED], answers_of(program, **cases)).name


def test_the_mistake_that_explains_the_answers_is_named():
    diagnosis = diagnose([PLUS_TWO, SQUARED], answers_of(lambda x: x * x))
    assert (diagnosis.name, diagnosis.place) == ("squared", 0)
    assert diagnosis.words == "All 10 wrong answers are what a typical mistake gives. That is the square."


def test_nine_in_ten_are_enough_and_eight_are_not():
    assert name_of(lambda x: x * x if x < 11 else 0) == "squared"
    assert name_of(lambda x: x * x if x < 10 else 0) is None


def test_a_right_answer_that_the_mistake_does_not_give_contradicts_it():
    assert name_of(lambda x: 2 * x if x == 7 else x * x) is None


def test_one_right_answer_in_a_hundred_may_contradict():
    def students(x):
        return 2 * x if x == 700 else x * x

    # of these only 2 and, by itself, 700 are right
    assert name_of(students, cases=range(1, 1001)) is None
    # here all even numbers are right anyway, 500 of them
    odd_wrong = Mistake("odd", "Odd numbers too.", lambda x: x if x % 2 else 2 * x)
    shown = answers_of(lambda x: 2 * x if x == 701 else odd_wrong.program(x), cases=range(1, 1001))
    assert diagnose([odd_wrong], shown).name == "odd"


def test_the_place_is_one_that_the_mistake_explains():
    diagnosis = diagnose([SQUARED], answers_of(lambda x: -1 if x == 1 else x * x))
    assert (diagnosis.name, diagnosis.place) == ("squared", 2)
    assert diagnosis.words.startswith("9 of the 10 wrong answers are")


def test_only_none_is_a_missing_return():
    diagnosis = diagnose([SQUARED], answers_of(lambda x: None))
    assert diagnosis.name == "nothing returned" and "`return`" in diagnosis.words


@pytest.mark.parametrize(
    ("truth", "program", "name"),
    [
        (lambda x: x / 20, lambda x: 100 * x / 20, "in per cent"),
        (lambda x: x / 20, lambda x: f"{x / 20}", "text returned"),
        (lambda x: x / 20, lambda x: 10 * x / 20, None),
        (lambda x: [x, x], lambda x: [x], "wrong length"),
        (lambda x: [x, x], lambda x: x, None),
        (lambda x: "memory", lambda x: "compute", None),
        (lambda x: 20 * x, lambda x: 2000 * x, None),
    ],
)
def test_some_faults_are_seen_without_knowing_the_exercise(truth, program, name):
    assert diagnose([], answers_of(program, truth=truth)).name == name


def test_a_wrong_length_says_nothing_where_right_answers_have_several():
    short = answers_of(lambda x: [0], truth=lambda x: [x, x])
    assert diagnose([], short).name == "wrong length"
    several = answers_of(lambda x: [0], truth=lambda x: [x] * (2 + x % 2))
    assert diagnose([], several).name is None


def test_most_is_nine_in_ten():
    assert is_most(9, 10) and is_most(1, 1) and not is_most(8, 9) and not is_most(0, 0)


def test_a_sample_is_spread_over_all_places():
    assert spread([1, 2, 3], 100) == [1, 2, 3]
    sample = spread(list(range(1000)), 100)
    assert len(sample) == 100 and sample[-1] == 990
