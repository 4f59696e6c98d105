"""What a caching allocator adds to what tensors need: a small model of the one that PyTorch has for CUDA.

Asking the driver for memory is slow, so freed memory is kept and reused. It comes in segments. A request takes the
smallest free block that is large enough, and splits off the remainder. Free neighbours are joined again, but never
across segments. When lengths change from step to step, free blocks have sizes that no request fits: memory is reserved
and not used.

>>> allocator = CachingAllocator()        # expandable=True: one segment that grows (expandable_segments:True)
>>> block = allocator.allocate(1000)
>>> block.size, allocator.allocated, allocator.reserved
(1024, 1024, 2097152)

What it leaves out: streams, garbage collection, retries after freeing all cached segments, the pages of expandable
segments.

Source: c10/cuda/CUDACachingAllocator.cpp in PyTorch. Sizes are rounded to 512 bytes; in a large segment a remainder is
split off if it is above 1 MiB. Requests up to 1 MiB come from segments of 2 MiB, those below 10 MiB from segments of
20 MiB; larger ones get a segment of their own, rounded to 2 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from coursekit.memory import activations
from coursekit.memory.architecture import Architecture, architecture_of
from coursekit.memory.plan import Plan
from coursekit.memory.planner import model_of
from coursekit.memory.tape import Event, Tape
from coursekit.memory.totals import resident, totals
from coursekit.units import MiB


@dataclass(eq=False)
class Block:
    """A part of a segment."""

    segment: int  # its index
    start: int  # bytes from the start of the segment
    size: int  # bytes
    free: bool = True


class CachingAllocator:
    """Counts the bytes that are reserved from the driver and allocated in blocks; `reserved` never falls."""

    def __init__(self, *, expandable: bool = False):
        self.expandable = expandable
        self.segments: list[list[Block]] = []
        self.reserved = self.allocated = self.peak_allocated = 0

    def allocate(self, nbytes: int) -> Block:
        """Allocate a block of at least `nbytes`. Raises ValueError if that is not positive."""
        if nbytes <= 0:
            raise ValueError(f"a block must have a positive number of bytes; got {nbytes}.")
        size = rounded(nbytes, 512)
        block = self._best(size) or self._more(size)
        self._split(block, size)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Free a block, and join it with free neighbours. Raises ValueError if it is free already."""
        if block.free:
            raise ValueError("this block is free already.")
        block.free = True
        self.allocated -= block.size
        blocks = self.segments[block.segment]
        at = blocks.index(block)
        for left in (at, at - 1):  # first with the one behind it, then with the one before it
            if 0 <= left < len(blocks) - 1 and blocks[left].free and blocks[left + 1].free:
                blocks[left].size += blocks.pop(left + 1).size

    def _best(self, size: int) -> Block | None:
        """The smallest free block for `size` bytes; small and large requests never share a segment."""
        fitting = []
        for blocks in self.segments:
            small = sum(block.size for block in blocks) == 2 * MiB
            if self.expandable or small == (size <= MiB):
                fitting += [block for block in blocks if block.free and block.size >= size]
        return min(fitting, key=attrgetter("size"), default=None)

    def _more(self, size: int) -> Block:
        if self.expandable and self.segments:
            return self._grow(size)
        whole = size if self.expandable else segment_bytes(size)
        block = Block(len(self.segments), 0, rounded(whole, 2 * MiB))
        self.segments.append([block])
        self.reserved += block.size
        return block

    def _grow(self, size: int) -> Block:
        blocks = self.segments[0]
        if not blocks[-1].free:
            blocks.append(Block(0, blocks[-1].start + blocks[-1].size, 0))
        extra = rounded(size - blocks[-1].size, 2 * MiB)
        blocks[-1].size += extra
        self.reserved += extra
        return blocks[-1]

    def _split(self, block: Block, size: int) -> None:
        rest = block.size - size
        if rest < 512 or (size > MiB and rest <= MiB and not self.expandable):
            return  # in a large segment a small remainder stays with its block
        blocks = self.segments[block.segment]
        blocks.insert(blocks.index(block) + 1, Block(block.segment, block.start + size, rest))
        block.size = size


def rounded(nbytes: int, to: int) -> int:
    return -(-nbytes // to) * to


def segment_bytes(size: int) -> int:
    """Bytes of the segment that the driver is asked for, for a block of that size."""
    if size <= MiB:
        return 2 * MiB
    return 20 * MiB if size < 10 * MiB else rounded(size, 2 * MiB)


def replay(plans: Iterable[Plan], allocator: CachingAllocator) -> CachingAllocator:
    """Run the steps of these plans through the allocator, one after the other; return the allocator.

    Weights and states are allocated once, as the first plan has them. Gradients are freed after each step.
    """
    for number, plan in enumerate(plans):
        a = architecture_of(plan.model)
        if number == 0:
            for size in resident(plan, totals(plan, a)).values():
                if size:
                    allocator.allocate(size)
        _step(plan, a, allocator)
    return allocator


def _step(plan: Plan, a: Architecture, allocator: CachingAllocator) -> None:
    tape = Tape()
    activations.step(tape, model_of(plan, a), range(a.layers))  # unnamed, so that its gradients are freed
    held: dict[int, list[Block]] = {}  # blocks by the bytes that were asked for
    for nbytes in moves(tape.events):
        if nbytes > 0:
            held.setdefault(nbytes, []).append(allocator.allocate(nbytes))
        else:
            allocator.release(held[-nbytes].pop())
    for blocks in held.values():
        for block in blocks:
            allocator.release(block)


def moves(events: Iterable[Event]) -> Iterator[int]:
    """Bytes that came and went, without those that only changed their category."""
    events = list(events)
    at = 0
    while at < len(events):
        if _changes_category(*events[at : at + 2]):
            at += 2  # out of one category and into another: nothing is allocated or freed
        else:
            yield events[at].bytes
            at += 1


def _changes_category(event: Event, following: Event | None = None) -> bool:
    if following is None or event.bytes >= 0:
        return False
    same = (event.operation, event.bytes) == (following.operation, -following.bytes)
    return same and event.category != following.category
