"""A clock that we wind ourselves tells what is counted."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.throughput.meter import Timing, in_turns, tokens_per_second


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def contestant(clock, log, name, durations):
    left = iter(durations)

    def step():
        log.append(name)
        clock.now += next(left)

    return step


def test_contestants_take_turns_and_the_warm_up_is_apart():
    clock, log = Clock(), []
    a = contestant(clock, log, "a", [9, 1, 2, 3])
    b = contestant(clock, log, "b", [8, 4, 6, 5])
    found = in_turns({"a": a, "b": b}, rounds=3, warmup=1, clock=clock)
    assert log == ["a", "b"] * 4
    assert found == {"a": Timing((1, 2, 3), (9,)), "b": Timing((4, 6, 5), (8,))}
    assert (found["a"].median, found["b"].median) == (2, 5)
    assert found["a"].per_second(10) == 5


def test_it_waits_before_it_reads_the_clock():
    """Work that a call leaves behind belongs to the call that left it."""
    clock, queue = Clock(), []

    def wait():
        while queue:
            clock.now += queue.pop()

    found = in_turns({"queued": lambda: queue.append(3.0)}, rounds=2, warmup=0, wait=wait, clock=clock)
    assert found["queued"].seconds == (3.0, 3.0)


@given(st.lists(st.floats(0.001, 10), min_size=2, max_size=20))
def test_spread_is_the_distance_of_the_quartiles(seconds):
    """As numpy counts them."""
    import numpy as np

    low, high = np.percentile(seconds, [25, 75])
    assert Timing(tuple(seconds)).spread == pytest.approx((high - low) / statistics.median(seconds), abs=1e-9)


def test_one_round_has_no_spread():
    assert Timing((1.0,)).spread == 0


def test_tokens_per_second_counts_calls():
    calls = []
    assert tokens_per_second(lambda: calls.append(1), tokens=1000, rounds=3, warmup=2) > 0
    assert len(calls) == 5


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"warmup": -1}, {"contestants": {}}])
def test_nothing_to_measure_gets_a_sentence(wrong):
    with pytest.raises(ValueError, match="expected contestants, 1 round or more"):
        in_turns(**{"contestants": {"a": int}, **wrong})
