"""Units of memory: 1 GB is 10^9 bytes, 1 GiB is 2^30 bytes. Every size in the course says which of the two it is."""

from __future__ import annotations

from math import floor, log10

KB = 10**3
MB = 10**6
GB = 10**9
KiB = 2**10
MiB = 2**20
GiB = 2**30


def gb(nbytes: int) -> str:
    """Bytes as GB with three digits, never an exponent; "-" for nothing.

    >>> [gb(n) for n in (0, 1_234_567_890_123, 12_345_678_901, 123_456, 1)]
    ['-', '1,235', '12.3', '0.000123', '0.000000001']
    """
    if not nbytes:
        return "-"
    value = nbytes / GB
    places = 2 - floor(log10(value))  # so many behind the point make three digits
    return f"{value:,.{min(9, max(0, places))}f}"  # nine places show a single byte
