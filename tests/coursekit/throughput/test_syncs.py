"""A loop whose waits are known, each found at its line."""

import sys

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from coursekit.throughput.syncs import Sync, SyncCounter, sync_operations

X = torch.arange(6.0)


def line():
    """Number of the caller's line."""
    return sys._getframe(1).f_lineno


ASKING = {
    "item": lambda: X.sum().item(),
    "tolist": lambda: X.tolist(),
    "numpy": lambda: X.numpy(),
    "cpu": lambda: X.cpu(),
    "to": lambda: X.to("cpu"),
    "__bool__": lambda: bool(X.sum() > 0),
    "__float__": lambda: float(X.sum()),
    "__int__": lambda: int(X.sum()),
    "__index__": lambda: [0, 1][torch.tensor(1)],
    "__repr__": lambda: str(X),
    "__format__": lambda: f"{X.sum():.1f}",
    "__contains__": lambda: 3.0 in X,
    "nonzero": lambda: X.nonzero(),
    "where": lambda: torch.where(X > 2),
    "masked_select": lambda: X.masked_select(X > 2),
    "__getitem__": lambda: X[X > 2],
    "unique": lambda: X.unique(),
    "equal": lambda: torch.equal(X, X),
}
SILENT = {
    "arithmetic": lambda: (X * 2).sum() + X.max(),
    "where with three": lambda: torch.where(X > 2, X, 0 * X),
    "slice": lambda: X[1:3],
    "index by numbers": lambda: X[torch.tensor([0, 2])],
    "shape": lambda: (X.shape, X.dtype, len(X)),
    "to a dtype": lambda: X.to(torch.float64),
    "to the device of another tensor": lambda: X.to(X.device),
    "detach": lambda: X.detach(),
}


@pytest.mark.parametrize("name", ASKING)
def test_whatever_asks_for_a_value_counts_once(name):
    with SyncCounter("cpu") as watch:
        ASKING[name]()
    assert [(s.call, s.count) for s in watch.per_step()] == [(name, 1)]


@pytest.mark.parametrize("name", SILENT)
def test_what_stays_on_the_device_does_not_count(name):
    with SyncCounter("cpu") as watch:
        SILENT[name]()
    assert watch.total() == 0


def test_a_training_loop_with_known_waits(capsys):
    """Two a step, one every second step; each at its line; the optimizer's own step counts are none."""
    layer = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), foreach=False)
    lines = {}
    with SyncCounter("cpu") as watch:
        for step in range(10):
            loss = layer(torch.ones(2, 3)).square().mean()
            loss.backward()
            optimizer.step()
            loss.item(); lines["item"] = line()  # fmt: skip  # noqa: E702
            if step % 2 == 0:
                print(loss); lines["__repr__"] = line()  # fmt: skip  # noqa: E702
            _ = float(loss.detach()) > 1; lines["__float__"] = line()  # fmt: skip  # noqa: E702
    rows = watch.per_step(10)
    found = {sync.call: sync for sync in rows}
    assert len(rows) == len(found) == 3
    assert {name: sync.line for name, sync in found.items()} == lines
    assert {name: sync.count for name, sync in found.items()} == {"item": 1, "__float__": 1, "__repr__": 0.5}
    assert all(sync.file == __file__ for sync in found.values())


def test_waits_within_torch_are_those_of_the_line_that_called_it():
    weight = torch.ones(3, requires_grad=True)
    weight.sum().backward()
    with SyncCounter("cpu") as watch:
        torch.nn.utils.clip_grad_norm_([weight], 1.0, error_if_nonfinite=True)
        expected = line() - 1
    assert {(sync.file, sync.line) for sync in watch.per_step()} == {(__file__, expected)}


def test_tensors_of_the_cpu_do_not_count_where_a_gpu_works():
    with SyncCounter("cuda") as watch:
        X.sum().item()
        X.tolist()
    assert watch.total() == 0


def test_the_profiler_counts_the_same_numbers():
    """Below Python: every item() and bool() is one aten::_local_scalar_dense."""

    def step():
        for _ in range(3):
            X.sum().item()
        bool(X.sum() > 0)
        X.nonzero()

    with SyncCounter("cpu") as watch, profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    counts = {}
    for sync in watch.per_step():
        counts[sync.call] = counts.get(sync.call, 0) + sync.count
    assert sync_operations(found) == {"aten::_local_scalar_dense": 4, "aten::nonzero": 1}
    assert counts == {"item": 3, "__bool__": 1, "nonzero": 1}


def test_a_row_reads_as_a_sentence():
    assert str(Sync("a/train.py", 12, "item", 0.5)) == "train.py:12  item  0.5 per step"


@pytest.mark.gpu
def test_torchs_own_watch_warns_at_the_same_calls():
    """On a GPU: set_sync_debug_mode raises where we count, and nowhere else."""
    x = torch.arange(6.0, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for ask in (
            x.sum().item,
            x.tolist,
            x.cpu,
            (x > 2).nonzero,
            lambda: x[x > 2],
            lambda: bool(x.sum() > 0),
        ):
            with SyncCounter("cuda") as watch, pytest.raises(RuntimeError):
                ask()
            assert watch.total() == 1
    finally:
        torch.cuda.set_sync_debug_mode("default")
