"""A guess is noted, and compared with the answer in honest words."""

import math

import numpy as np
import pytest
import torch

from classroom.notebook.predict import distance, format_number, predict


def test_no_guess_yet_is_said_and_kind(capsys):
    p = predict("Largest finite FP16 number", ...)
    assert "Replace the three dots by a number" in capsys.readouterr().out
    p.reveal(65504)
    out = capsys.readouterr().out
    assert "65,504" in out
    assert "no guess" in out
    assert p.guess is None


def test_a_guess_is_noted_with_its_unit(capsys):
    p = predict("INT4 codes, 1,000 of them", 500, unit="bytes")
    assert "Noted: 500 bytes." in capsys.readouterr().out
    p.reveal(8000)
    out = capsys.readouterr().out
    assert "Your guess  500 bytes" in out
    assert "Answer      8,000 bytes" in out
    assert "Off by a factor of 16, too small." in out


@pytest.mark.parametrize(
    ("guess", "answer", "words"),
    [
        (65504, 65504.0, "Exactly right."),
        (math.nan, math.nan, "Exactly right."),
        (65000, 65504, "Very close: 0.77 % too small."),
        (110, 100, "Very close: 10 % too large."),
        (32768, 65504, "Close: off by a factor of 2, too small."),
        (1.0, 1e-3, "Off by 3 powers of ten, too large."),
        (1e300, 1e-300, "Off by 600 powers of ten, too large."),
        (5e-324, 1.0, "Off by 323 powers of ten, too small."),
        (-8, -2, "Off by a factor of 4, too large in size."),
        (0, 3, "You were 3 too low."),
        (2, 0, "You were 2 too high."),
        (-1, 1, "You were 2 too low."),
        (math.inf, 65504, "not a finite number"),
        (10**400, 1, "powers of ten, too large."),
    ],
)
def test_distance_in_words(guess, answer, words):
    """A ratio for two numbers of one sign, a difference else."""
    assert words in distance(guess, answer)[1]


def test_only_close_guesses_count_as_passed():
    assert [distance(guess, 100)[0] for guess in (100, 95, 105, 50, 1000)] == [
        "pass",
        "pass",
        "pass",
        "note",
        "note",
    ]


@pytest.mark.parametrize("answer", [np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5]), np.array(0.5)])
def test_the_answer_may_be_anything_that_holds_one_number(answer, capsys):
    predict("a half", 0.5).reveal(answer)
    assert "Exactly right." in capsys.readouterr().out


@pytest.mark.parametrize("guess", ["12", None, True, [1], 1j])
def test_what_is_no_number_gets_told_how_to_write_one(guess):
    with pytest.raises(TypeError, match="the guess must be a number such as 65504") as caught:
        predict("x", guess)
    assert repr(guess) in str(caught.value)


def test_several_numbers_are_no_answer():
    with pytest.raises(TypeError, match="must be one number; it holds several"):
        predict("x", 1).reveal(torch.tensor([1.0, 2.0]))


def test_a_notebook_shows_a_prediction_once():
    """predict() has displayed the card; the value of the cell must not show it again."""
    assert predict("x", 1)._ipython_display_() is None


@pytest.mark.parametrize(
    ("value", "words"),
    [(65504.0, "65,504"), (2**24, "16,777,216"), (-0.0, "-0"), (0.0, "0"), (6e-8, "6e-08"), (1.9765625, "1.97656"),
     (math.inf, "inf"), (1e16, "1e+16"), (10**5000, "about 10^5000"), (-(2**16000), "about -10^4816")],
    ids=range(10),
)  # fmt: skip
def test_numbers_for_people(value, words):
    assert format_number(value) == words


@pytest.mark.parametrize("answer", [0.0, -1.5, 3, 1e300])
def test_a_guess_beyond_every_float_is_answered(answer, capsys):
    predict("x", 10**5000).reveal(answer)
    assert "about 10^5000" in capsys.readouterr().out
