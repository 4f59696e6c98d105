"""What a caching allocator adds to what tensors need: a small model of the one that PyTorch has for CUDA.

Asking the driver for memory is slow, so freed memory is kept and given again. It comes in segments; a request takes the
smallest free block that is large enough, and splits off the rest. Neighbours are joined again when both are free, but
never across segments. When lengths change from step to step, free blocks have sizes that nobody asks for: memory is
reserved that nobody uses.

    expandable=True    one segment that grows at its end, so that blocks can be joined (expandable_segments:True)

Left out: streams, garbage collection, retries after freeing all cached segments, the pages of expandable segments.

Source: c10/cuda/CUDACachingAllocator.cpp in PyTorch: sizes are rounded to 512 bytes, rests above 1 MiB split off;
requests up to 1 MiB come from
segments of 2 MiB, others up to 10 MiB from segments of 20 MiB, larger ones get a segment of their own, rounded to 2
MiB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coursekit.memory import activations
from coursekit.memory.architecture import Architecture, architecture_of
from coursekit.memory.plan import Plan
from coursekit.memory.planner import model_of
from coursekit.memory.tape import Tape
from coursekit.memory.totals import resident, totals

MIB = 2**20


@dataclass(eq=False)
class Block:
    """A part of a segment; `start` within it."""

    segment: int
    start: int
    size: int
    free: bool = True


class CachingAllocator:
    """Counts reserved and used bytes; `reserved` never falls."""

    def __init__(self, *, expandable: bool = False):
        self.expandable = expandable
        self.segments: list[list[Block]] = []
        self.reserved = self.allocated = self.peak_allocated = 0

    def allocate(self, nbytes: int) -> Block:
        """A block of at least nbytes. Raises ValueError if nbytes is not positive."""
        if nbytes <= 0:
            raise ValueError(f"a block has a positive number of bytes; got {nbytes}.")
        size = rounded(nbytes, 512)
        block = self._best(size) or self._more(size)
        self._split(block, size)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Give a block back, and join it with free neighbours. Raises ValueError if it is free already."""
        if block.free:
            raise ValueError("this block is free already.")
        block.free = True
        self.allocated -= block.size
        blocks = self.segments[block.segment]
        at = blocks.index(block)
        for left in (at, at - 1):  # first with the one behind, then with the one before
            if 0 <= left < len(blocks) - 1 and blocks[left].free and blocks[left + 1].free:
                blocks[left].size += blocks.pop(left + 1).size

    def _best(self, size: int) -> Block | None:
        small = size <= MIB
        fitting = [
            block
            for blocks in self.segments
            if self.expandable or (sum(b.size for b in blocks) == 2 * MIB) == small
            for block in blocks
            if block.free and block.size >= size
        ]
        return min(fitting, key=lambda block: block.size, default=None)

    def _more(self, size: int) -> Block:
        if self.expandable and self.segments:
            return self._grow(size)
        whole = size if self.expandable else segment_bytes(size)
        block = Block(len(self.segments), 0, rounded(whole, 2 * MIB))
        self.segments.append([block])
        self.reserved += block.size
        return block

    def _grow(self, size: int) -> Block:
        blocks = self.segments[0]
        if not blocks[-1].free:
            blocks.append(Block(0, blocks[-1].start + blocks[-1].size, 0))
        extra = rounded(size - blocks[-1].size, 2 * MIB)
        blocks[-1].size += extra
        self.reserved += extra
        return blocks[-1]

    def _split(self, block: Block, size: int) -> None:
        rest = block.size - size
        if rest < 512 or (size > MIB and rest <= MIB and not self.expandable):
            return  # of a large segment no small rest is split off
        blocks = self.segments[block.segment]
        blocks.insert(blocks.index(block) + 1, Block(block.segment, block.start + size, rest))
        block.size = size


def rounded(nbytes: int, to: int) -> int:
    return -(-nbytes // to) * to


def segment_bytes(size: int) -> int:
    """What is asked of the driver for a block of that size."""
    if size <= MIB:
        return 2 * MIB
    return 20 * MIB if size < 10 * MIB else rounded(size, 2 * MIB)


def replay(plans: Iterable[Plan], allocator: CachingAllocator) -> CachingAllocator:
    """Run the steps of these plans through the allocator, one after the other; returns it.

    Weights and states are taken once, from the first plan; gradients are freed after each step.
    """
    for number, plan in enumerate(plans):
        a = architecture_of(plan.model)
        if not number:
            for size in resident(plan, totals(plan, a)).values():
                if size:
                    allocator.allocate(size)
        _step(plan, a, allocator)
    return allocator


def _step(plan: Plan, a: Architecture, allocator: CachingAllocator) -> None:
    tape = Tape()
    activations.step(
        tape, model_of(plan, a), range(a.layers)
    )  # no name for the model: its gradients go at once
    held: dict[int, list[Block]] = {}  # blocks by the bytes that were asked for
    for nbytes in moves(tape.events):
        if nbytes > 0:
            held.setdefault(nbytes, []).append(allocator.allocate(nbytes))
        else:
            allocator.release(held[-nbytes].pop())
    for blocks in held.values():
        for block in blocks:
            allocator.release(block)


def moves(events) -> Iterable[int]:
    """Bytes that came and went, without those that only changed their category."""
    events = list(events)
    skip = False
    for event, following in zip(events, [*events[1:], None], strict=False):
        if skip:
            skip = False
        elif following and event.bytes == -following.bytes < 0 and event.operation == following.operation:
            skip = event.category != following.category
            if not skip:
                yield event.bytes
        else:
            yield event.bytes
