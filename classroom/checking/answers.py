"""Kinds of answers: is it the right one, is it the one of a mistake, and how does it read in a card?

    Exact()                                    equal; lists and tuples part by part
    Close(1e-6)                                equal up to a relative tolerance
    AtMost()                                   a number, or a smaller one
    AnyOrder(Close(1e-6))                      a list, tuple or set in any order
    Fields(peak=Close(), phase=Exact())        a tuple whose parts are of different kinds
    Report()                                   what a probe says in words, "kind of fault: details"

Numbers may come as Python's, numpy's or torch's, lists as tuples, arrays or tensors. NaN equals NaN, text is compared
without regard to case, and a key that a dictionary lacks counts as 0. True is not a number here. A kind of your own
is a subclass of `Exact` with its own `same`, for one number, or `right`, for the whole answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

from classroom.checking.compare import equal


def plain(value):
    """The Python number or list inside a numpy or torch value; anything else unchanged."""
    if hasattr(value, "tolist") and not isinstance(value, type):
        return value.tolist()
    return value


def is_number(value) -> bool:
    """Is it a real number? True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


class Exact:
    """Equal. bitwise: -0.0 is not 0.0. show(value): an answer in words, by default `show_value`."""

    def __init__(self, bitwise: bool = False, show: Callable[[object], str] | None = None):
        self.bitwise = bitwise
        self.show = show or show_value

    def same(self, expected, got) -> bool:
        """Are two single values equal?"""
        if isinstance(got, bool) != isinstance(expected, bool) or isinstance(got, (list, tuple, complex)):
            return False
        return bool(equal(expected, got, self.bitwise))

    def right(self, expected, got) -> bool:
        """Is `got` the expected answer?"""
        expected, got = plain(expected), plain(got)
        if isinstance(expected, (list, tuple)):
            if not isinstance(got, (list, tuple)) or len(got) != len(expected):
                return False
            return all(self.right(a, b) for a, b in zip(expected, got, strict=True))
        if isinstance(expected, dict):
            keys = expected.keys() | got.keys() if isinstance(got, dict) else ()
            return isinstance(got, dict) and all(self.right(expected.get(k, 0), got.get(k, 0)) for k in keys)
        if isinstance(expected, str):
            return isinstance(got, str) and got.strip().lower() == expected.lower()
        return self.same(expected, got)

    def alike(self, mistaken, got) -> bool:
        """Does `got` come from the mistake that gives `mistaken`?"""
        return self.right(mistaken, got)

    def first_difference(self, expected, got) -> tuple[str, object, object]:
        """("[3]", expected[3], got[3]) where two lists of one length first differ; else ("", expected, got)."""
        try:
            right, said = plain(expected), plain(got)
        except Exception:  # a tensor on the meta device has no numbers
            return "", expected, got
        if not isinstance(right, list) or not isinstance(said, (list, tuple)) or len(right) != len(said):
            return "", expected, got
        pairs = enumerate(zip(right, said, strict=True))
        at = next((i for i, (a, b) in pairs if not self.right(a, b)), None)
        return ("", expected, got) if at is None else (f"[{at}]", right[at], said[at])


class Close(Exact):
    """Equal up to `relative` times the expected number, or up to `absolute`."""

    def __init__(
        self,
        relative: float = 1e-9,
        absolute: float = 0.0,
        show: Callable[[object], str] | None = None,
    ):
        super().__init__(show=show)
        self.relative = relative
        self.absolute = absolute

    def same(self, expected, got) -> bool:
        if not is_number(expected):
            return super().same(expected, got)
        if not is_number(got):
            return False
        if math.isnan(expected) or math.isnan(got):
            return math.isnan(expected) and math.isnan(got)
        return math.isclose(expected, got, rel_tol=self.relative, abs_tol=self.absolute)


class AtMost(Exact):
    """A number that is right up to the expected one; a mistake's number is met exactly."""

    def right(self, expected, got) -> bool:
        got = plain(got)
        return is_number(got) and got <= expected

    def alike(self, mistaken, got) -> bool:
        return self.same(plain(mistaken), plain(got))


class AnyOrder(Exact):
    """A list, tuple or set whose order does not matter. each: the kind of its items."""

    def __init__(self, each: Exact | None = None, show: Callable[[object], str] | None = None):
        super().__init__(show=show)
        self.each = each or Exact()

    def right(self, expected, got) -> bool:
        expected, got = plain(expected), plain(got)
        if not _is_collection(expected):
            return self.each.right(expected, got)
        if not _is_collection(got) or len(got) != len(expected):
            return False
        left = list(got)
        for item in expected:
            place = next((i for i, other in enumerate(left) if self.each.right(item, other)), None)
            if place is None:
                return False
            del left[place]
        return True

    def first_difference(self, expected, got) -> tuple[str, object, object]:
        return "", expected, got  # places mean nothing here


class Fields(Exact):
    """A tuple (or list) of named parts, each with its own kind of answer: `Fields(peak=Close(), phase=Exact())`.

    A part of a mistake may be `...`: it matches whatever the student has there.
    """

    def __init__(self, **kinds: Exact):
        super().__init__(show=self._show)
        self.kinds = kinds

    def fits(self, answer) -> bool:
        """Has the answer as many parts as there are names?"""
        return isinstance(answer, (tuple, list)) and len(answer) == len(self.kinds)

    def right(self, expected, got) -> bool:
        if not self.fits(got):
            return False
        parts = zip(self.kinds.values(), expected, got, strict=True)
        return all(kind.right(a, b) for kind, a, b in parts)

    def alike(self, mistaken, got) -> bool:
        if not self.fits(mistaken) or not self.fits(got):
            return False
        parts = zip(self.kinds.values(), mistaken, got, strict=True)
        return all(a is ... or kind.alike(a, b) for kind, a, b in parts)

    def first_difference(self, expected, got) -> tuple[str, object, object]:
        return "", expected, got  # the parts are shown with their names

    def _show(self, answer) -> str:
        if not self.fits(answer):
            return show_value(answer)
        parts = zip(self.kinds.items(), answer, strict=True)
        return "; ".join(f"{name.replace('_', ' ')} {kind.show(part)}" for (name, kind), part in parts)


class Report(Exact):
    """What a probe says of an answer, as text. Two faults are alike if they are the same up to the colon."""

    def __init__(self, show: Callable[[object], str] = str):
        super().__init__(show=show)

    def alike(self, mistaken, got) -> bool:
        if not isinstance(mistaken, str) or not isinstance(got, str):
            return False
        return mistaken.split(":")[0] == got.split(":")[0]


def _is_collection(value) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


# ---------------------------------------------------------------- answers in words


def show_value(value, depth: int = 4) -> str:
    """An answer in words short enough for a card; long lists are cut and counted. Never raises an Exception.

    depth: how many lists inside lists are written out; a list may hold itself.
    """
    try:
        value = plain(value)
    except Exception:  # a tensor on the meta device has no numbers
        return _repr(value)
    if not isinstance(value, (list, tuple)):
        return _repr(value)
    if not depth:
        return "[...]" if isinstance(value, list) else "(...)"
    more = f", ... {len(value)} in all" if len(value) > 8 else ""
    inside = ", ".join(show_value(item, depth - 1) for item in value[:8]) + more
    return f"[{inside}]" if isinstance(value, list) else f"({inside})"


def show_short(value) -> str:
    """As show_value, with four digits of each number: for answers of many parts."""
    value = plain(value)
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: str(item[0]))
        return "{" + ", ".join(f"{key}: {show_short(part)}" for key, part in items) + "}"
    if isinstance(value, (list, tuple)):
        more = f", ... {len(value)} in all" if len(value) > 7 else ""
        return f"[{', '.join(map(show_short, value[:7]))}{more}]"
    return f"{value:.4g}" if isinstance(value, float) else show_value(value)


def _repr(value) -> str:
    """repr(value) cut to 120 characters, or what kind of thing it is where Python cannot print it."""
    try:
        return repr(value)[:120]
    except Exception:
        if isinstance(value, int):  # Python prints integers of up to 4,300 digits
            return f"an integer of about {int(value.bit_length() * 0.30103) + 1:,} digits"
        return f"a value of type {type(value).__name__} that cannot be printed"
