"""What a format does to gradients, held against torch's own casts and autograd, and on every FP16 code."""

import math

import pytest
import torch

from coursekit.amp import grad_stats
from coursekit.formats.spec import BF16, E4M3, E5M2, FP16

DTYPES = [(FP16, torch.float16), (BF16, torch.bfloat16), (E5M2, torch.float8_e5m2)]


def spread(count=20_000, seed=0):
    """Numbers over 90 binades, with zeros, inf and NaN among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, generator=generator) * 2.0 ** torch.randint(-60, 30, (count,), generator=generator)
    x[::100], x[1], x[2] = 0.0, math.inf, math.nan
    return x


@pytest.mark.parametrize("scale", [1.0, 1024.0, 2.0**-10])
@pytest.mark.parametrize(("fmt", "dtype"), DTYPES, ids=lambda value: str(value).split("(")[0])
def test_shares_equal_what_torch_casts(fmt, dtype, scale):
    """Powers of two scale without rounding, so torch may multiply in FP32."""
    x = spread()
    counted = (x != 0) & x.isfinite()
    cast = (x[counted] * scale).to(dtype).double()
    ours = grad_stats.shares(x, fmt, scale)
    smallest = torch.finfo(dtype).tiny
    assert ours.numbers == counted.sum()
    assert ours.zero == (cast == 0).double().mean()
    assert ours.subnormal == ((cast != 0) & (cast.abs() < smallest)).double().mean()
    assert ours.overflow == (~cast.isfinite()).double().mean()


def test_every_positive_fp16_code_survives_in_fp16():
    codes = torch.arange(1, 0x7C00, dtype=torch.int16).view(torch.float16)
    found = grad_stats.shares(codes, FP16)
    assert (found.zero, found.overflow) == (0.0, 0.0)
    assert found.subnormal == 1023 / (0x7C00 - 1)


def test_half_of_the_smallest_number_dies_and_anything_above_lives():
    """2^-25 is halfway between 0 and 2^-24 and goes to the even one, which is 0."""
    x = torch.tensor([2.0**-25, 2.0**-25 * (1 + 2.0**-20)])
    assert grad_stats.shares(x, FP16).zero == 0.5


def test_scaling_saves_what_is_small_and_breaks_what_is_large():
    x = torch.tensor([1e-9, 1.0])
    assert grad_stats.shares(x, FP16).zero == 0.5
    saved = grad_stats.shares(x, FP16, scale=2.0**15)
    assert (saved.zero, saved.overflow) == (0.0, 0.0)
    assert grad_stats.shares(x, FP16, scale=2.0**17).overflow == 0.5


@pytest.mark.parametrize("x", [torch.zeros(5), torch.empty(0), torch.tensor([math.inf, math.nan])])
def test_nothing_to_count(x):
    found = grad_stats.shares(x, FP16)
    assert (found.numbers, found.zero, found.subnormal, found.overflow) == (0, 0.0, 0.0, 0.0)


def test_a_row_says_the_layer_and_its_shares():
    row = str(grad_stats.by_layer({"layer.0": torch.tensor([1e-9, 1.0])}, FP16)[0])
    assert row.startswith("layer.0") and "2 numbers:  50.00% zero" in row


@pytest.mark.parametrize("fmt", [FP16, E4M3, BF16])
def test_the_largest_safe_scale_is_safe_and_twice_as_much_is_not(fmt):
    for seed in range(20):
        x = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 1e-3
        scale = grad_stats.largest_safe_scale([x, x / 2], fmt)
        assert math.log2(scale).is_integer()
        limit = {"FP16": 65504.0, "E4M3": 448.0, "BF16": torch.finfo(torch.bfloat16).max}[fmt.name]
        assert x.abs().max().item() * scale <= limit < x.abs().max().item() * scale * 2
    assert grad_stats.largest_safe_scale([torch.zeros(3), torch.empty(0)], fmt) == 1.0


def test_the_largest_safe_scale_at_its_very_edge_and_beside_inf_and_nan():
    edge = torch.tensor([65504.0])
    assert grad_stats.largest_safe_scale([edge], FP16) == 1.0
    assert grad_stats.largest_safe_scale([edge / 4], FP16) == 4.0
    assert grad_stats.largest_safe_scale([torch.nextafter(edge, 2 * edge)], FP16) == 0.5
    assert grad_stats.largest_safe_scale([torch.tensor([1.0, math.inf, math.nan])], FP16) == 2.0**15


def test_exponents_are_those_of_the_binades():
    x = torch.tensor([1.0, 1.5, -1.99, 2.0, 0.25, 0.0, math.inf, 2.0**-149])
    k, count = grad_stats.exponents(x)
    assert dict(zip(k.tolist(), count.tolist(), strict=True)) == {0: 3, 1: 1, -2: 1, -149: 1}


def test_activation_gradients_are_autograd_s_and_the_hooks_go():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    x = torch.randn(6, 4)
    with grad_stats.activation_gradients(model) as found:
        model(x).square().mean().backward()
    hidden = model[0](x)
    active = model[1](hidden)
    out = model[2](active)
    expected = torch.autograd.grad(out.square().mean(), [hidden, active, out])
    assert list(found) == ["2", "1", "0"]
    assert all(torch.equal(found[n], g) for n, g in zip(("0", "1", "2"), expected, strict=True))
    assert list(grad_stats.gradients_of(model)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert not any(module._forward_hooks for module in model.modules())


def test_a_module_called_again_has_a_key_for_each_call():
    torch.manual_seed(0)
    shared = torch.nn.Linear(3, 3)
    model = torch.nn.Sequential(shared, torch.nn.Tanh(), shared)  # the same module twice
    x = torch.randn(2, 3)
    with grad_stats.activation_gradients(model) as found:
        model(x).square().sum().backward()
    first = shared(x)
    last = shared(torch.tanh(first))
    expected = torch.autograd.grad(last.square().sum(), [first, last])
    assert set(found) == {"0", "1", "0#2"}
    assert torch.equal(found["0"], expected[0]) and torch.equal(found["0#2"], expected[1])


def test_nothing_is_recorded_after_the_block():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with grad_stats.activation_gradients(model) as found:
        loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    model(torch.ones(1, 2)).sum().backward()
    assert found == {}


def test_hooks_go_even_if_backward_fails():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="stop"), grad_stats.activation_gradients(model):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.gpu
@pytest.mark.parametrize(("fmt", "dtype"), DTYPES[:2], ids=lambda value: str(value).split("(")[0])
def test_shares_on_a_gpu_equal_torch_s_cast_there(fmt, dtype):
    x = spread()
    cast = x[(x != 0) & x.isfinite()].cuda().to(dtype)
    assert grad_stats.shares(x.cuda(), fmt).zero == (cast == 0).double().mean().item()
