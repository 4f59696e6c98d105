"""GB and GiB are not the same, and sizes print in three digits."""

import doctest

from coursekit import units


def test_examples():
    assert doctest.testmod(units).failed == 0


def test_a_gib_is_seven_percent_more_than_a_gb():
    assert round(units.GiB / units.GB, 3) == 1.074
