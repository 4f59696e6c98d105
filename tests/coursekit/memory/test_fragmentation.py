"""Laws of the caching allocator, by examples from PyTorch's constants and by random traffic."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.memory.architecture import architecture_of
from coursekit.memory.fragmentation import CachingAllocator, moves, replay, rounded, segment_bytes
from coursekit.memory.plan import Plan
from coursekit.memory.planner import estimate
from coursekit.memory.tape import Event
from coursekit.memory.totals import resident, totals
from coursekit.units import MiB

BOTH = pytest.mark.parametrize("expandable", [False, True], ids=["segments", "expandable"])
SIZES = st.one_of(st.integers(1, 5000), st.integers(1, 2 * MiB), st.integers(1, 40 * MiB))
TRAFFIC = st.lists(st.one_of(SIZES, st.integers(-50, -1)), max_size=60)  # below 0: release one that is held


def play(traffic, allocator):
    """Returns the blocks that are held at the end; `check` after every move."""
    held = []
    for move in traffic:
        if move > 0:
            block = allocator.allocate(move)
            assert move <= block.size and block.size % 512 == 0
            held.append(block)
        elif held:
            allocator.release(held.pop(move % len(held)))
        check(allocator, held)
    return held


def check(allocator, held):
    """What must hold at any time."""
    blocks = [block for segment in allocator.segments for block in segment]
    assert sum(block.size for block in blocks) == allocator.reserved  # nothing is lost, nothing invented
    assert (
        sum(block.size for block in held)
        == allocator.allocated
        <= allocator.peak_allocated
        <= allocator.reserved
    )
    assert {id(b) for b in blocks if not b.free} == {id(b) for b in held}
    for segment in allocator.segments:
        end = 0
        for block in segment:  # side by side: no two overlap, no gap
            assert block.start == end and block.size > 0
            end += block.size
        assert not any(a.free and b.free for a, b in itertools.pairwise(segment)), "not joined"


@BOTH
@settings(max_examples=150, deadline=None)
@given(traffic=TRAFFIC)
def test_blocks_fill_the_segments_and_never_overlap(expandable, traffic):
    allocator = CachingAllocator(expandable=expandable)
    held = play(traffic, allocator)
    reserved = allocator.reserved
    for block in held:
        allocator.release(block)
    assert allocator.allocated == 0 and allocator.reserved == reserved  # kept for later
    assert all(len(segment) == 1 for segment in allocator.segments)  # and in one piece


@BOTH
@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(SIZES, min_size=1, max_size=20))
def test_the_same_step_again_asks_the_driver_for_nothing(expandable, sizes):
    allocator, reserved = CachingAllocator(expandable=expandable), set()
    for _ in range(3):
        blocks = [allocator.allocate(size) for size in sizes]
        for block in reversed(blocks):
            allocator.release(block)
        reserved.add(allocator.reserved)
    assert len(reserved) == 1


@settings(max_examples=80, deadline=None)
@given(traffic=TRAFFIC)
def test_one_growing_segment_reserves_little_more_than_the_highest_end(traffic):
    """Its end lies where the last block lay at most, rounded to 2 MiB."""
    allocator = CachingAllocator(expandable=True)
    held, highest = [], 0
    for move in traffic:
        if move > 0:
            held.append(allocator.allocate(move))
            highest = max(highest, held[-1].start + held[-1].size)
        elif held:
            allocator.release(held.pop(move % len(held)))
    assert highest <= allocator.reserved <= rounded(highest, 2 * MiB) and len(allocator.segments) <= 1


@pytest.mark.parametrize(
    ("asked", "block", "segment"),
    [
        (1, 512, 2 * MiB),
        (512, 512, 2 * MiB),
        (513, 1024, 2 * MiB),
        (MiB, MiB, 2 * MiB),
        (MiB + 1, MiB + 512, 20 * MiB),
        (10 * MiB - 1, 10 * MiB, 10 * MiB),
        (10 * MiB, 10 * MiB, 10 * MiB),
        (11 * MiB + 1, 12 * MiB, 12 * MiB),  # the rest is 512 bytes short of more than 1 MiB: not split off
        (11 * MiB - 512, 11 * MiB - 512, 12 * MiB),
    ],
)
def test_sizes_are_those_of_pytorch(asked, block, segment):
    """kMinBlockSize 512, kSmallBuffer 2 MiB, kLargeBuffer 20 MiB, kRoundLarge 2 MiB; the size counts once rounded. In a
    large segment a rest of 1 MiB (kSmallSize) or less stays with the block."""
    allocator = CachingAllocator()
    assert (allocator.allocate(asked).size, allocator.reserved) == (block, segment)
    assert segment_bytes(rounded(asked, 512)) == segment


def test_neighbours_are_joined_whichever_goes_first():
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)):
        allocator = CachingAllocator()
        blocks = [allocator.allocate(512 * 1024) for _ in range(4)]
        for which in order:
            allocator.release(blocks[which])
        free, last = allocator.segments[0]
        assert free.free and free.size == 3 * 512 * 1024 and last is blocks[3]
        assert allocator.allocate(MiB).start == 0 and allocator.reserved == 2 * MiB


def test_blocks_of_two_segments_are_not_joined():
    """Two free blocks of 20 MiB do not hold one of 40; a segment that grows does."""
    for expandable, reserved in ((False, 80 * MiB), (True, 40 * MiB)):
        allocator = CachingAllocator(expandable=expandable)
        for block in [allocator.allocate(20 * MiB) for _ in range(2)]:
            allocator.release(block)
        allocator.allocate(40 * MiB)
        assert allocator.reserved == reserved


def test_a_rest_below_512_is_not_split_off():
    allocator = CachingAllocator()
    block = allocator.allocate(1000)
    assert block.size == 1024
    assert [b.size for b in allocator.segments[0]] == [1024, 2 * MiB - 1024]
    allocator.allocate(2 * MiB - 1024 - MiB)  # both small, and the segment is full to the last byte
    allocator.allocate(MiB)
    assert len(allocator.segments) == 1 and not any(b.free for b in allocator.segments[0])


def test_the_smallest_block_that_is_large_enough_is_taken():
    allocator = CachingAllocator()
    kept = [allocator.allocate(size) for size in (64 * 1024, 512, 16 * 1024, 512, 32 * 1024, 512)]
    for block in kept[::2]:
        allocator.release(block)
    assert allocator.allocate(10 * 1024).start == kept[2].start


def test_small_and_large_requests_do_not_share_a_segment():
    allocator = CachingAllocator()
    allocator.allocate(2 * MiB)
    allocator.allocate(512)
    assert len(allocator.segments) == 2


@BOTH
def test_a_block_is_given_back_once(expandable):
    allocator = CachingAllocator(expandable=expandable)
    block = allocator.allocate(4096)
    allocator.release(block)
    with pytest.raises(ValueError, match="free already"):
        allocator.release(block)
    assert (allocator.allocated, allocator.peak_allocated) == (0, 4096)


@pytest.mark.parametrize("nbytes", [0, -1])
def test_nothing_is_no_block(nbytes):
    with pytest.raises(ValueError, match=f"positive number of bytes; got {nbytes}"):
        CachingAllocator().allocate(nbytes)


class NeverJoins(CachingAllocator):
    """Wrong: what is free stays in pieces."""

    def release(self, block):
        block.free = True
        self.allocated -= block.size


class LosesTheRest(CachingAllocator):
    """Wrong: the rest of a block that is split belongs to nobody."""

    def _split(self, block, size):
        block.size = size


class GivesAgain(CachingAllocator):
    """Wrong: the block that fits best may be in use."""

    def _best(self, size):
        blocks = [block for segment in self.segments for block in segment if block.size >= size]
        return min(blocks, key=lambda block: block.size, default=None)


@pytest.mark.parametrize("planted", [NeverJoins, LosesTheRest, GivesAgain])
def test_planted_bugs_are_caught(planted):
    with pytest.raises(AssertionError):
        play([4096, 4096, 4096, -1, -1, 2048], planted())


# ---------------------------------------------------------------- steps of a plan

PLAN = Plan("course-100m", ledger="fp32", batch=4)
GROWING = [replace(PLAN, sequence=s) for s in (128, 192, 256, 320, 384, 448, 512)]
CONSTANT = [replace(PLAN, sequence=512)] * 3


def reserved(plans, expandable=False):
    return replay(plans, CachingAllocator(expandable=expandable)).reserved


def test_growing_lengths_reserve_more_than_constant_ones():
    """The longest step is the same; what shorter ones left behind fits nobody."""
    assert reserved(GROWING) > 1.02 * reserved(CONSTANT)


def test_with_one_growing_segment_about_the_same():
    growing, constant = reserved(GROWING, True), reserved(CONSTANT, True)
    assert growing < 1.02 * constant
    assert growing < reserved(GROWING)


@BOTH
def test_what_is_in_use_is_what_the_planner_says(expandable):
    """Nothing but the rounding to 512 bytes between the allocator's peak and that of the phases before the step."""
    allocator = replay(CONSTANT, CachingAllocator(expandable=expandable))
    peaks = estimate(CONSTANT[0]).peaks
    expected = max(bytes for phase, bytes in peaks.items() if phase != "optimizer step")
    assert allocator.peak_allocated == pytest.approx(expected, rel=1e-3)
    assert allocator.reserved >= allocator.peak_allocated


def test_after_a_step_only_what_stays_is_held():
    allocator = replay(CONSTANT[:1], CachingAllocator(expandable=True))  # which splits off every rest
    stays = sum(rounded(n, 512) for n in resident(PLAN, totals(PLAN, architecture_of(PLAN.model))).values())
    inputs = 2 * 8 * PLAN.batch * (512 - PLAN.sequence)
    assert allocator.allocated == stays + inputs


def test_moves_leaves_out_what_only_changed_its_category():
    """A tensor that is saved is booked out of one category and into another; nobody allocates."""
    events = [
        Event("forward", "a", "mul", "temporary", 100),
        Event("forward", "a", "mul", "temporary", -100),
        Event("forward", "a", "mul", "activations", 100),
        Event("backward", "a", "mul", "activations", -100),
    ]
    assert list(moves(events)) == [100, -100]
    assert list(moves([])) == []
