"""16-bit products by way of FP32: one rounding, forward and backward, and nothing else is touched."""

import pytest
import torch

from coursekit.amp import tensor_core as module
from coursekit.amp.tensor_core import rounded_dtypes, tensor_core

SIXTEEN_BITS = (torch.float16, torch.bfloat16)


def halves(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).half()


@pytest.mark.parametrize(
    ("shape", "other"),
    [((5, 70), (70, 3)), ((2, 5, 70), (2, 70, 3)), ((2, 5, 70), (70, 3))],
    ids=["mm", "bmm", "folded"],
)
@pytest.mark.parametrize("dtype", SIXTEEN_BITS)
def test_a_product_is_the_exact_one_rounded_once(shape, other, dtype):
    """Products of 16-bit numbers and sums of 70 of them are exact in float64 up to far below half an ulp of 16 bits."""
    a, b = halves(*shape).to(dtype), halves(*other, seed=1).to(dtype)
    with tensor_core(SIXTEEN_BITS):
        ours = a @ b
    exact = (a.double() @ b.double()).to(dtype)
    off_by_one = (ours.view(torch.int16).int() - exact.view(torch.int16).int()).abs()
    assert ours.dtype == dtype
    assert off_by_one.max() <= 1 and (off_by_one == 0).float().mean() > 0.95


def test_sums_are_not_rounded_on_the_way():
    """4096 products of 1: FP16 alone would stay at 2048, where adding 1 changes nothing."""
    ones = torch.ones(1, 4096).half()
    with tensor_core():
        assert (ones @ ones.T).item() == 4096


def test_results_overflow_as_fp16_does():
    with tensor_core():
        assert (torch.full((1, 2), 200.0).half() @ torch.full((2, 1), 200.0).half()).item() == float("inf")


def test_backward_is_caught_too_and_gradients_underflow():
    """d(loss)/dw is 2^-26 in exact arithmetic, a quarter of the smallest FP16 number: it comes back as zero."""
    w = torch.ones(1, 1).half().requires_grad_()
    with tensor_core():
        (torch.full((1, 1), 2.0**-14).half() @ w).backward(torch.full((1, 1), 2.0**-12).half())
    assert w.grad.dtype == torch.float16 and w.grad.item() == 0.0


def test_a_layer_equals_torch_s_own_fp16_layer():
    """torch's CPU kernel accumulates in FP32 as well, where it has one; addmm with its bias in one rounding."""
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(48, 16).half(), halves(7, 48)
    native = layer(x)
    with tensor_core():
        ours = layer(x)
    assert torch.allclose(ours.float(), native.float(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("units", [True, False])
def test_bf16_is_rounded_where_the_processor_has_no_units(units, monkeypatch):
    monkeypatch.setattr(module, "bf16_units", lambda: units)
    assert tensor_core().dtypes == {torch.float16} | (set() if units else {torch.bfloat16})


def test_bf16_products_differ_from_the_processor_s_own_by_rounding_alone():
    """Real units add up in FP32 as well, in another order."""
    a, b = halves(64, 256).bfloat16(), halves(256, 32, seed=1).bfloat16()
    with tensor_core([torch.bfloat16]):
        rounded = a @ b
    assert rounded.dtype == torch.bfloat16
    assert torch.allclose(rounded.float(), (a @ b).float(), rtol=2**-7, atol=2**-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_other_dtypes_pass_untouched(dtype):
    a, b = halves(4, 9).to(dtype), halves(9, 4).to(dtype)
    with tensor_core([torch.float16]):
        ours = a @ b
    assert ours.dtype == dtype and torch.equal(ours, a @ b)


def test_the_default_rounds_fp16_on_every_processor():
    assert torch.float16 in rounded_dtypes()


@pytest.mark.gpu
def test_products_on_a_gpu_are_the_gpu_s():
    a, b = halves(64, 64).cuda(), halves(64, 64).cuda()
    with tensor_core():
        assert torch.equal(a @ b, torch.mm(a, b))
