"""The tree of calls, on calls that are known, with a clock that we wind."""

import sys

import pytest
import torch

from coursekit.throughput import flame
from coursekit.throughput.flame import Frame
from coursekit.throughput.profiling import profiled

NOW = [0.0]


def leaf(seconds):
    NOW[0] += seconds


def middle():
    leaf(1)
    NOW[0] += 2
    leaf(3)


def top():
    middle()
    leaf(5)


def names(frame):
    return {name.split()[-1]: child for name, child in frame.children.items()}


def test_calls_times_and_places():
    """Own time is what the children leave; equal calls at one place are one frame."""
    tree = flame.of_calls(top, within="test_flame", clock=lambda: NOW[0])
    assert tree.seconds == 11
    frame = names(tree)["top"]
    assert (frame.seconds, frame.calls, frame.own_seconds) == (11, 1, 0)
    inner = names(frame)
    assert (inner["middle"].seconds, inner["middle"].own_seconds) == (6, 2)
    assert (names(inner["middle"])["leaf"].seconds, names(inner["middle"])["leaf"].calls) == (4, 2)
    assert (inner["leaf"].seconds, inner["leaf"].calls) == (5, 1)


def test_own_times_add_up_to_the_whole():
    tree = flame.of_calls(top, clock=lambda: NOW[0])
    assert sum(frame.own_seconds for frame, _, _ in tree.walk()) == pytest.approx(tree.seconds)


def test_folded_lines_hold_the_same():
    tree = flame.of_calls(top, within="test_flame", clock=lambda: NOW[0])
    lines = dict(line.rsplit(" ", 1) for line in flame.folded(tree))
    assert sum(map(int, lines.values())) == 11e6
    assert [int(v) for k, v in lines.items() if k.endswith(" middle")] == [2_000_000]


def test_siblings_stand_side_by_side():
    tree = Frame("all", 10, 1, {"a": Frame("a", 4, 1, {"c": Frame("c", 1)}), "b": Frame("b", 6)})
    assert [(f.name, depth, start) for f, depth, start in tree.walk()] == [
        ("all", 0, 0), ("a", 1, 0), ("c", 2, 0), ("b", 1, 4),
    ]  # fmt: skip


def test_pruning_drops_what_is_narrow():
    tree = Frame("all", 100, 1, {"wide": Frame("wide", 50), "thin": Frame("thin", 0.5)})
    assert list(flame.pruned(tree, 0.01).children) == ["wide"]


def test_the_profiler_of_before_is_set_again():
    def own(*_):
        return None

    sys.setprofile(own)
    try:
        with pytest.raises(ZeroDivisionError):
            flame.of_calls(lambda: 1 / 0)
        assert sys.getprofile() is own
    finally:
        sys.setprofile(None)


def test_operations_nest_as_torch_says():
    """A linear layer's forward holds the product, and backward is there too."""
    layer = torch.nn.Linear(8, 8)
    profile = profiled(lambda: layer(torch.ones(2, 8)).sum().backward(), steps=2)
    tree = flame.of_operations(profile)
    found = {frame.name: frame for frame, _, _ in tree.walk()}
    assert found["aten::addmm"].calls == 1 and "AddmmBackward0" in str(list(found))
    linear = next(f for f, _, _ in tree.walk() if f.name == "aten::linear")
    assert "aten::addmm" in {f.name for f, _, _ in linear.walk()}
    for frame, _, _ in tree.walk():
        assert frame.own_seconds >= -1e-5  # the profiler's clock has microseconds
