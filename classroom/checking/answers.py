"""A student's answers beside the right ones: are they the same, and how do they read in a card?"""

from __future__ import annotations

from classroom.checking.compare import equal


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
    try:
        right, said = plain(expected), plain(got)
    except Exception:  # a tensor on the meta device has no numbers
        return "", expected, got
    if not isinstance(right, list) or not isinstance(said, (list, tuple)) or len(right) != len(said):
        return "", expected, got
    at = next((i for i, (a, b) in enumerate(zip(right, said, strict=True)) if not same(a, b)), None)
    return ("", expected, got) if at is None else (f"[{at}]", right[at], said[at])


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


def _repr(value) -> str:
    """repr(value) cut to 120 characters, or what kind of thing it is where Python cannot print it."""
    try:
        return repr(value)[:120]
    except Exception:
        if isinstance(value, int):  # Python prints integers of up to 4,300 digits
            return f"an integer of about {int(value.bit_length() * 0.30103) + 1:,} digits"
        return f"a value of type {type(value).__name__} that cannot be printed"
