"""Dividing gradients by the scale: bit-equal to torch's kernel, with every inf and NaN found."""

import math

import pytest
import torch

from coursekit.amp.unscale import BATCH, all_finite, foreach_groups, unscale_and_check

SCALES = [65536.0, 1.0, 3.0, 0.1, 2.0**-20, 2.0**100, 1e-42]


def by_torch(grads, scale):
    """The native kernel on copies: (gradients, was something found)."""
    copies, found = [g.clone() for g in grads], torch.zeros(())
    inverse = torch.tensor(scale).double().reciprocal().float()
    torch._amp_foreach_non_finite_check_and_unscale_(copies, found, inverse)
    return copies, bool(found)


def random_grads(seed, special=None):
    """Gradients of several shapes, from subnormal to huge, one of them with a special number at a random place."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(), (1,), (7, 3), (2, 3, 4), (513,)]
    grads = [
        torch.randn(s, generator=generator) * 10.0 ** torch.randint(-44, 30, s, generator=generator).double()
        for s in shapes
    ]
    grads = [g.float() for g in grads]
    if special is not None:
        victim = grads[seed % len(grads)].view(-1)
        victim[seed % len(victim)] = special
    return grads


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("special", [None, math.inf, -math.inf, math.nan])
def test_gradients_and_verdict_equal_torch_bit_for_bit(scale, special):
    for seed in range(10):
        grads = random_grads(seed, special)
        expected, found = by_torch(grads, scale)
        assert unscale_and_check(grads, scale) == found == (special is not None)
        for ours, theirs in zip(grads, expected, strict=True):
            assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32)) or special is not None
            assert torch.equal(ours.nan_to_num(1.0, 2.0, 3.0), theirs.nan_to_num(1.0, 2.0, 3.0))


def test_a_sum_of_squares_that_overflows_is_not_mistaken_for_an_inf():
    """1e30 squared is beyond FP32, and so is the norm; every element is finite."""
    assert all_finite([torch.full((3,), 1e30)])
    assert not all_finite([torch.full((3,), 1e30), torch.tensor([1e30, math.inf])])


def test_the_check_sees_the_gradients_before_the_division():
    """Divided by 2^-20, 1e38 overflows; it was finite before, so the step counts as good, as in torch."""
    grads = [torch.tensor([1e38])]
    assert by_torch(grads, 2.0**-20)[1] is False
    assert unscale_and_check(grads, 2.0**-20) is False
    assert grads[0].item() == math.inf


@pytest.mark.parametrize("special", [math.inf, -math.inf, math.nan])
def test_one_special_number_is_found_wherever_it_hides(special):
    """Every length to 70 and every place in it: all the tails of a vectorised loop."""
    for length in range(1, 71):
        for place in range(length):
            x = torch.ones(length)
            x[place] = special
            assert not all_finite([x]), (length, place)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [65536.0, 3.0, 0.1])
def test_other_dtypes_equal_torch_in_one_call(dtype, scale):
    fp32, other = random_grads(1), [g.to(dtype) for g in random_grads(2)]
    expected, found = zip(*(by_torch(grads, scale) for grads in (fp32, other)), strict=True)
    grads = [g.clone() for pair in zip(fp32, other, strict=True) for g in pair]  # FP32 and the other in turns
    assert unscale_and_check(grads, scale) is any(found)
    for ours, theirs in zip(grads[::2] + grads[1::2], expected[0] + expected[1], strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_empty_and_transposed_gradients_equal_torch():
    grads = [torch.empty(0), torch.randn(5, 3).t(), torch.randn(8)[::2], torch.empty(3, 0)]
    expected, _ = by_torch(grads, 3.0)
    assert unscale_and_check(grads, 3.0) is False
    assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))


def test_batches_hold_every_gradient_once_and_fit_the_cache():
    sizes = [BATCH // 2, BATCH // 2, 1, 3 * BATCH, 5, BATCH, BATCH // 3]
    grads = [torch.empty(size, dtype=dtype) for size in sizes for dtype in (torch.float32, torch.float16)]
    made = list(foreach_groups(grads))
    assert sorted(id(t) for batch in made for t in batch) == sorted(map(id, grads))
    for batch in made:
        assert len({t.dtype for t in batch}) == 1
        assert len(batch) == 1 or sum(t.numel() for t in batch) <= BATCH
    assert [[t.numel() for t in batch] for batch in made][:2] == [[BATCH // 2] * 2, [1]]


def test_an_inf_in_any_batch_is_found():
    for bad in range(4):
        grads = [torch.ones(BATCH) for _ in range(4)]
        grads[bad][-1] = math.inf
        assert unscale_and_check(grads, 2.0) is True
        assert all(g[0] == 0.5 for g in grads)


def test_values_of_a_sparse_gradient_are_judged_and_divided_one_by_one_as_in_torch():
    """Two entries for row 1, each finite, whose sum is finite only after the division."""
    sparse = torch.sparse_coo_tensor([[1, 1]], [3e38, 3e38], (4,), check_invariants=True)
    assert unscale_and_check([sparse], 2.0) is False
    assert sparse.to_dense().tolist() == [0.0, torch.tensor(3e38).item(), 0.0, 0.0]


def test_nothing_to_do():
    assert unscale_and_check([], 2.0) is False


@pytest.mark.gpu
@pytest.mark.parametrize("special", [None, math.inf, math.nan])
def test_gradients_on_a_gpu_equal_torch(special):
    grads = [g.cuda() for g in random_grads(3, special)]
    copies, found = [g.clone() for g in grads], torch.zeros((), device="cuda")
    inverse = torch.tensor(65536.0).double().reciprocal().float().cuda()
    torch._amp_foreach_non_finite_check_and_unscale_(copies, found, inverse)
    assert unscale_and_check(grads, 65536.0) == bool(found)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(grads, copies, strict=True))
