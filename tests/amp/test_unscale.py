"""Dividing gradients by the scale: bit-equal to torch's kernel, with every inf and NaN found."""

import math

import pytest
import torch

from coursekit.amp.unscale import all_finite, unscale_and_check

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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_mixed_into_one_call(dtype):
    grads = [torch.tensor([8.0, 16.0]), torch.tensor([32.0], dtype=dtype)]
    assert unscale_and_check(grads, 8.0) is False
    assert [g.tolist() for g in grads] == [[1.0, 2.0], [4.0]]


def test_sparse_gradients_are_added_up_before_they_are_judged():
    """Two entries for row 1, each finite, whose sum is not."""
    sparse = torch.sparse_coo_tensor([[1, 1]], [3e38, 3e38], (4,), check_invariants=True)
    assert unscale_and_check([sparse], 2.0) is True
    fine = torch.sparse_coo_tensor([[1, 1]], [1.0, 3.0], (4,), check_invariants=True)
    assert unscale_and_check([fine], 2.0) is False
    assert fine.to_dense().tolist() == [0.0, 2.0, 0.0, 0.0]


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
