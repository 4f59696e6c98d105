"""Build the tree of calls of a step, with times: what a flame graph draws.

    >>> root = of_calls(lambda: sorted([3, 1, 2], key=str), within="<lambda>")
    >>> [(depth, frame.name.split()[-1], frame.calls) for frame, depth, _ in root.walk()]
    [(0, 'all', 1), (1, '<lambda>', 1)]

`of_calls` follows Python's own calls (sys.setprofile), so its leaves are functions; `of_operations` takes the nesting
of torch's operations from a profile, backward included. A frame's seconds include those of its children;
what is left is its own. The widths of siblings add up to at most their parent's, which makes the picture readable.
Left out: the order in time. Calls of one function at one place are one frame; a trace (`profiling`) keeps them apart.

Source: Gregg, The flame graph, CACM 59(6), 2016.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coursekit.throughput.profiling import code_location


@dataclass
class Frame:
    """A function at one place of the tree."""

    name: str
    seconds: float = 0.0  # with everything that it called
    calls: int = 0  # how often it was entered here
    children: dict[str, Frame] = field(default_factory=dict)

    def child(self, name: str) -> Frame:
        return self.children.setdefault(name, Frame(name))

    @property
    def own_seconds(self) -> float:
        return self.seconds - sum(child.seconds for child in self.children.values())

    def walk(self, depth: int = 0, start: float = 0.0) -> Iterator[tuple[Frame, int, float]]:
        """(frame, depth, seconds to its left) of this frame and all below, parents first."""
        yield self, depth, start
        for child in self.children.values():
            yield from child.walk(depth + 1, start)
            start += child.seconds


def of_calls(call: Callable[[], object], within: str = "", clock=time.perf_counter) -> Frame:
    """Run `call` and follow every Python call in this thread. Watching costs about a microsecond per call.

    within  keep only functions whose "file:line name" contains it; the time of others goes to their caller

    The profiler that was set before is set again, even if the call raises.
    """
    root = Frame("all")
    before = sys.getprofile()
    path: list[tuple[Frame, float] | None] = []  # (frame, when it was entered); None for a function left out
    inside = [root]

    def watch(frame, event, argument):
        if event == "call":
            name = code_location(frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_code.co_name)
            inside.append(inside[-1].child(name) if within in name else inside[-1])
            path.append((inside[-1], clock()) if within in name else None)  # the caller's clock goes on
        elif event == "return" and path:  # the first returns may be of frames entered before watching began
            inside.pop()
            if entry := path.pop():
                entry[0].seconds += clock() - entry[1]
                entry[0].calls += 1

    start = clock()
    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(before)
        root.seconds, root.calls = clock() - start, 1
    return root


def of_operations(profile) -> Frame:
    """The nesting of operations in a torch.profiler.profile, equal siblings joined; only those of the CPU."""
    root = Frame("all", calls=1)
    for event in profile.events():
        if event.cpu_parent is None and event.device_type.name == "CPU":
            _add(root, event)
    root.seconds = sum(child.seconds for child in root.children.values())
    return root


def _add(parent: Frame, event) -> None:
    frame = parent.child(event.name)
    frame.seconds += event.time_range.elapsed_us() * 1e-6
    frame.calls += 1
    for child in event.cpu_children:
        _add(frame, child)


def pruned(root: Frame, share: float = 0.01) -> Frame:
    """A copy without the frames that take less than `share` of the whole: too narrow to be drawn or to matter."""

    def keep(frame: Frame) -> Frame:
        wide = [child for child in frame.children.values() if child.seconds >= share * root.seconds]
        return Frame(frame.name, frame.seconds, frame.calls, {c.name: keep(c) for c in wide})

    return keep(root)


def folded(root: Frame) -> list[str]:
    """One line per frame, "all;outer;inner 1234" with its own microseconds, as flamegraph.pl and speedscope read."""

    def lines(frame: Frame, path: str) -> Iterator[str]:
        microseconds = round(frame.own_seconds * 1e6)
        if microseconds > 0:
            yield f"{path} {microseconds}"
        for child in frame.children.values():
            yield from lines(child, f"{path};{child.name.replace(';', ',')}")  # ";" separates frames

    return list(lines(root, root.name))
