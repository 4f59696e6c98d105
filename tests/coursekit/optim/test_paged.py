"""Paged AdamW: AdamW bit for bit, with no more than its budget on the device."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from coursekit.optim.adamw import AdamW
from coursekit.optim.paged import STATES, PagedAdamW, page_elements

SHAPES = [(300, 17), (5000,), (3, 4, 5), (), (0, 4)]


class Allocated(TorchDispatchMode):
    """Bytes of storages that operations made and that are still there: now, and at the most."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if not isinstance(tensor, torch.Tensor):
                continue  # the profiler's marks
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given and storage not in self.known:
                self.known[storage] = True
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return result

    def _change(self, nbytes):
        self.now += nbytes
        self.peak = max(self.peak, self.now)


def drive(kind, steps=10, dtype=torch.float32, **options):
    """(parameters, optimizer) after these gradients."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in SHAPES]
    optimizer = kind(parameters, lr=0.01, weight_decay=0.1, **options)
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator).to(dtype)
        optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("budget", [3 * 4 * 64, 10_000, 64 * 2**20])
@pytest.mark.parametrize("place", ["host memory", "file"])
def test_parameters_and_states_equal_adamw(place, budget, dtype, tmp_path):
    """Bit for bit, whatever the size of a page, in memory and in a file."""
    folder = tmp_path if place == "file" else None
    ours, optimizer = drive(PagedAdamW, dtype=dtype, budget_bytes=budget, folder=folder)
    plain, adamw = drive(AdamW, dtype=dtype)
    for p, q in zip(ours, plain, strict=True):
        assert torch.equal(p, q)
        assert all(torch.equal(optimizer.state[p][name], adamw.state[q][name]) for name in STATES)


@pytest.mark.parametrize("budget", [3 * 4 * 64, 100_000, 1_000_000])
def test_resident_bytes_stay_within_the_budget(budget):
    """Measured over one step of 4 MB of states: no more than the budget, and more than half of it."""
    p = torch.nn.Parameter(torch.randn(1 << 19))
    p.grad = torch.ones_like(p)
    optimizer = PagedAdamW([p], budget_bytes=budget)
    optimizer.step()  # the first step makes the states
    with Allocated() as allocated:
        optimizer.step()
    assert budget / 2 < allocated.peak <= budget


def test_the_measurement_sees_what_adamw_allocates():
    """The same meter on plain AdamW: one temporary of the parameter's size."""
    p = torch.nn.Parameter(torch.randn(1 << 19))
    p.grad = torch.ones_like(p)
    optimizer = AdamW([p])
    optimizer.step()
    with Allocated() as allocated:
        optimizer.step()
    assert p.nbytes <= allocated.peak <= p.nbytes + 100


def test_states_are_files_without_a_name(tmp_path):
    """What the optimizer maps is gone from the folder: nothing is left when the process ends."""
    _, optimizer = drive(PagedAdamW, steps=1, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert optimizer.state_dict()["state"][0]["exp_avg"].any()


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        drive(PagedAdamW, steps=1, folder=tmp_path / "missing")


def test_a_checkpoint_takes_neither_place_nor_budget(tmp_path):
    """States saved from files are loaded into memory by an optimizer that keeps them there, and AdamW's by both."""
    _, saved = drive(PagedAdamW, folder=tmp_path)
    parameters, optimizer = drive(PagedAdamW, steps=0, budget_bytes=10_000)
    optimizer.load_state_dict(saved.state_dict())
    tmp_path.rmdir()  # nobody needs it any more
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    _, adamw = drive(AdamW)
    optimizer.load_state_dict(
        {"state": adamw.state_dict()["state"], "param_groups": optimizer.state_dict()["param_groups"]}
    )
    for state, other in zip(optimizer.state.values(), adamw.state.values(), strict=True):
        assert torch.equal(state["exp_avg_sq"], other["exp_avg_sq"])


@pytest.mark.parametrize("budget", [0, -5, 3 * 4 * 64 - 1])
def test_a_budget_below_one_page_is_refused(budget):
    with pytest.raises(ValueError, match="at least 768, 3 buffers of 64 elements"):
        PagedAdamW([torch.nn.Parameter(torch.ones(1))], budget_bytes=budget)


def test_pages_fill_the_budget():
    """Whole vectors, three buffers, and not one more vector would fit."""
    for budget, size in ((768, 4), (10_000, 4), (64 * 2**20, 2)):
        elements = page_elements(budget, size)
        assert 3 * size * elements <= budget < 3 * size * (elements + 64) and elements % 64 == 0
