"""An exercise judges what a function answers: cases, first failure, hints one by one, the nearest typical mistake."""

from coursekit.classroom.check import Case, Exercise, Mistake


def make(**changes):
    settings = {
        "name": "double",
        "title": "Twice",
        "minutes": 5,
        "cases": lambda: [Case((x,), 2 * x) for x in (1, 2, 3, 10)],
        "hints": ("Add it to itself.", "x + x", "return x + x"),
        "mistakes": (
            Mistake("squared", "x * x is the square.", lambda x: x * x),
            Mistake("plus two", "x + 2 is right only for 2.", lambda x: x + 2),
        ),
        "praise": "Well seen.",
    }
    return Exercise(**(settings | changes))


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


def test_a_mistake_that_explains_a_part_says_which():
    verdict = make()(lambda x: x * x if x < 10 else 0)
    assert "2 of the 3 wrong answers are what a typical mistake gives." in verdict.words


def test_a_mistake_that_explains_less_than_half_is_not_named():
    assert make()(lambda x: 1 if x == 1 else 0).misconception is None


def test_of_two_mistakes_the_one_that_also_fits_the_right_answers():
    """Both give 0 for the wrong case; only the second is right where the student is."""
    first = Mistake("always 0", "It is not always 0.", lambda x: 0)
    second = Mistake("0 for ten", "Ten is not 0.", lambda x: 0 if x == 10 else 2 * x)
    assert make(mistakes=(first, second))(lambda x: 2 * x * (x != 10)).misconception == "0 for ten"


def test_hints_come_one_by_one():
    exercise = make()
    shown = [exercise(lambda x: -1).shown for _ in range(5)]
    assert shown == [1, 2, 3, 3, 3]
    assert exercise(lambda x: 2 * x).shown == 0
    assert exercise(lambda x: -1).shown == 1, "passing starts the ladder again"


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

    assert "returns None every time: is a `return` missing?" in make()(double).words


def test_calling_it_wrongly_is_not_counted():
    exercise = make()
    assert exercise(lambda: 1).status == "call"
    assert exercise(2).status == "call"
    assert exercise.failures == 0


def test_an_error_shows_the_case_and_keeps_the_ladder():
    verdict = make()(lambda x: 1 / (x - 3) * 0 + 2 * x)
    assert verdict.status == "error"
    assert verdict.case == "double(3)"
    assert verdict.shown == 1


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
