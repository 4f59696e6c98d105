"""A student's answers beside the right ones: are they the same, and how do they read in a card?"""

from __future__ import annotations

from coursekit.classroom.compare import equal


def plain(value):
    """The Python number or list inside a numpy or torch value; anything else as it is."""
    if hasattr(value, "tolist") and not isinstance(value, type):
        return value.tolist()
    return value


def same_value(expected, got, bitwise: bool = False) -> bool:
    """Equal, for numbers, numpy scalars, tensors, and lists or tuples of them.

    NaN equals NaN; 0.0 equals -0.0 unless `bitwise`. True is no number here, and None, text and dots equal
    none.
    """
    expected, got = plain(expected), plain(got)
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return False
        return all(same_value(a, b, bitwise) for a, b in zip(expected, got, strict=True))
    if isinstance(got, bool) != isinstance(expected, bool) or isinstance(got, (list, tuple, complex)):
        return False
    return bool(equal(expected, got, bitwise))


def same_bits(expected, got) -> bool:
    """As same_value, and -0.0 is not 0.0."""
    return same_value(expected, got, bitwise=True)


def first_difference(expected, got, same) -> tuple[str, object, object]:
    """("[3]", expected[3], got[3]) where two lists of one length first differ; else ("", expected, got)."""
    right, said = plain(expected), plain(got)
    if not isinstance(right, list) or not isinstance(said, (list, tuple)) or len(right) != len(said):
        return "", expected, got
    at = next((i for i, (a, b) in enumerate(zip(right, said, strict=True)) if not same(a, b)), None)
    return ("", expected, got) if at is None else (f"[{at}]", right[at], said[at])


def show_value(value) -> str:
    """An answer in words short enough for a card; long lists are cut and counted."""
    value = plain(value)
    if not isinstance(value, (list, tuple)):
        return repr(value)[:120]
    inside = ", ".join(map(show_value, value[:8])) + (f", ... {len(value)} in all" if len(value) > 8 else "")
    return f"[{inside}]" if isinstance(value, list) else f"({inside})"
