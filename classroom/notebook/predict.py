"""Note a guess before the machine computes the number, then compare it with the answer.

    p = predict("Largest finite FP16 number", ...)     # replace the three dots by a guess
    p.reveal(65504)

A wrong guess costs nothing: the distance between guess and answer shows what there is to learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from classroom.checking.answers import show_value
from classroom.checking.card import Card, Paragraph, Table, display

NOT_YET = (
    "Replace the three dots by a number, whatever you believe now, and run this cell before the next one."
)
NO_GUESS = "No guess this time. Next time write one first: you remember a surprise better than a number you only read."
MOST_BITS = 10_000  # Python refuses to print integers of more than 4,300 digits


@dataclass(frozen=True)
class Prediction:
    """Hold a guess; `guess` is None if the student left the three dots."""

    name: str
    guess: float | int | None
    unit: str = ""

    def reveal(self, value) -> None:
        """Show a card with the guess, the answer and the distance between them.

        `value` may be anything that holds one number (int, float, numpy scalar, tensor of one element).
        Raises TypeError for anything else.
        """
        display(self.card(_number(value, "the answer")))

    def card(self, answer: float | int) -> Card:
        said = "no guess" if self.guess is None else _with_unit(self.guess, self.unit)
        table = Table((("Your guess", said), ("Answer", _with_unit(answer, self.unit))))
        if self.guess is None:
            return Card("todo", "Answer", self.name, (table, Paragraph(NO_GUESS)))
        kind, words = distance(self.guess, answer, self.unit)
        return Card(kind, "Guess and answer", self.name, (table, Paragraph(words)))

    def _ipython_display_(self) -> None:
        """Show nothing: predict() has already shown the card."""


def predict(name: str, guess, unit: str = "") -> Prediction:
    """Note a guess and show it; `guess` is a number, or `...` if there is none yet.

    Raises TypeError for anything else, and says how to write a number.
    """
    if guess is ...:
        prediction = Prediction(name, None, unit)
        words = NOT_YET
    else:
        prediction = Prediction(name, _number(guess, "the guess"), unit)
        words = f"Noted: {_with_unit(prediction.guess, unit)}. The next cell shows the answer."
    title = f"{name} ({unit})" if unit else name
    display(Card("todo", "Predict", title, (Paragraph(words),)))
    return prediction


def distance(guess: float, answer: float, unit: str = "") -> tuple[str, str]:
    """Return (kind of card, one sentence) on how far the guess is from the answer.

    The distance is a ratio if both have the same sign and neither is 0 (sizes, ranges, speeds), else a difference.
    """
    both_nan = guess != guess and answer != answer  # only NaN differs from itself
    if guess == answer or both_nan:
        return "pass", "Exactly right."
    if not (_is_finite(guess) and _is_finite(answer)):
        words = "One of the two is not a finite number, so there is no distance to state: think about why."
        return "note", words
    if guess == 0 or answer == 0 or (guess < 0) != (answer < 0):
        gap = _with_unit(_gap(guess, answer), unit)
        side = "high" if guess > answer else "low"
        return "note", f"You were {gap} too {side}."
    return _ratio_words(guess, answer)


def _gap(guess: float | int, answer: float | int) -> float | int:
    try:
        return abs(guess - answer)
    except OverflowError:  # 10**400 does not fit into a float
        return max(abs(guess), abs(answer))


def _is_finite(value: float | int) -> bool:
    return isinstance(value, int) or math.isfinite(value)  # math.isfinite cannot convert 10**400 to a float


def _ratio_words(guess: float, answer: float) -> tuple[str, str]:
    # logarithms, because quotients such as 1e-40 / 1e300 leave the range of a float
    ratio_log10 = math.log10(abs(guess)) - math.log10(abs(answer))
    side = "too large" if ratio_log10 > 0 else "too small"
    if answer < 0:
        side += " in size"
    factor = 10 ** min(abs(ratio_log10), 300)
    if factor < 1.1:
        return "pass", f"Very close: {abs(guess / answer - 1) * 100:.2g} % {side}."
    if factor < 2:
        return "note", f"Close: off by a factor of {factor:.3g}, {side}."
    if factor < 1000:
        return "note", f"Off by a factor of {factor:.3g}, {side}."
    powers = f"{abs(ratio_log10):.0f} powers of ten"
    return "note", f"Off by {powers}, {side}. Take a minute: which step of your estimate was so far off?"


def _number(value, what: str) -> float | int:
    if hasattr(value, "item") and getattr(value, "size", None) is not None:
        value = _item(value, what)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{what} must be a number such as 65504, 2**-24 or 1e-3; it is {show_value(value)} "
            f"({type(value).__name__}). Write it without quotes and unit, or leave the three dots for now."
        )
    return value


def _item(value, what: str):
    try:
        return value.item()
    except (ValueError, RuntimeError) as error:
        raise TypeError(
            f"{what} must be one number; it holds several. Take one of them, for example [0]."
        ) from error


def _with_unit(value: float | int, unit: str) -> str:
    return format_number(value) + (f" {unit}" if unit else "")


def format_number(value: float | int) -> str:
    """Write a number for people: thousands separated, at most six significant digits, no unnecessary `.0`."""
    if isinstance(value, int):
        if value.bit_length() < MOST_BITS:
            return f"{value:,}"
        sign = "-" if value < 0 else ""
        return f"about {sign}10^{round(math.log10(abs(value)))}"
    if not math.isfinite(value):
        return str(value)
    if value == 0 and math.copysign(1, value) < 0:
        return "-0"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) < 1e-4:
        return f"{value:.4g}"
    return f"{value:,.6g}"
