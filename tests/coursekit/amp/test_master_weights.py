"""FP32 masters of 16-bit weights: nothing is lost between steps, and FP32 weights are their own."""

import pytest
import torch

from coursekit.amp.grad_scaler import GradScaler
from coursekit.amp.master_weights import MasterWeights

LOW = [torch.bfloat16, torch.float16]


def network(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2)).to(dtype)


def gradients(model, step):
    """The same 16-bit gradients for every run."""
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator).to(p.dtype) for p in model.parameters()]


def check_against_fp32(dtype, device="cpu"):
    model, reference = network(dtype).to(device), network(dtype).float().to(device)
    masters = MasterWeights(model.parameters())
    optimizer = torch.optim.AdamW(masters.masters, lr=1e-3)
    expected = torch.optim.AdamW(reference.parameters(), lr=1e-3)
    for step in range(20):
        for p, q, grad in zip(
            model.parameters(), reference.parameters(), gradients(model, step), strict=True
        ):
            p.grad, q.grad = grad.to(device), grad.float().to(device)
        masters.collect_grads()
        optimizer.step(), expected.step()
        masters.copy_back()
    for master, parameter, fp32 in zip(
        masters.masters, model.parameters(), reference.parameters(), strict=True
    ):
        assert torch.equal(master, fp32)
        assert parameter.dtype == dtype and torch.equal(parameter, fp32.to(dtype))


@pytest.mark.parametrize("dtype", LOW)
def test_masters_equal_fp32_training_on_the_same_gradients(dtype):
    """An FP32 model that starts at the same weights and gets the same gradients ends at the masters, bit for bit."""
    check_against_fp32(dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", LOW)
def test_masters_on_a_gpu_equal_fp32_training(dtype):
    check_against_fp32(dtype, "cuda")


@pytest.mark.parametrize("dtype", LOW)
def test_updates_too_small_for_the_weight_add_up_in_the_master(dtype):
    """A thousand steps of 1e-4 on a weight of 1: alone it stays, with a master it arrives at 0.9."""
    alone = torch.ones(1, dtype=dtype, requires_grad=True)
    with_master = torch.ones(1, dtype=dtype, requires_grad=True)
    masters = MasterWeights([with_master])
    optimizers = torch.optim.SGD([alone], lr=1e-4), torch.optim.SGD(masters.masters, lr=1e-4)
    for _ in range(1000):
        alone.grad, with_master.grad = torch.ones_like(alone), torch.ones_like(alone)
        masters.collect_grads()
        for optimizer in optimizers:
            optimizer.step()
        masters.copy_back()
    assert alone.item() == 1.0
    assert masters.masters[0].item() == pytest.approx(0.9, abs=1e-4)
    assert with_master.item() == pytest.approx(0.9, rel=2**-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_parameters_are_their_own_masters_and_train_as_without(dtype):
    model, plain = network(dtype), network(dtype)
    masters = MasterWeights(model.parameters())
    assert all(m is p for m, p in zip(masters.masters, model.parameters(), strict=True))
    runs = [(model, torch.optim.AdamW(masters.masters)), (plain, torch.optim.AdamW(plain.parameters()))]
    for step in range(5):
        for trained, optimizer in runs:
            for p, grad in zip(trained.parameters(), gradients(trained, step), strict=True):
                p.grad = grad
            masters.collect_grads(), optimizer.step(), masters.copy_back()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_model_of_several_dtypes_has_masters_where_they_are_needed():
    model = network(torch.bfloat16)
    model[2].float()  # as a norm or a head that is kept in FP32
    masters = MasterWeights(model.parameters())
    own = [m is p for m, p in zip(masters.masters, masters.parameters, strict=True)]
    assert own == [False, False, True, True]
    assert {m.dtype for m in masters.masters} == {torch.float32}


def test_zero_grad_forgets_the_gradients_of_both():
    model = network(torch.bfloat16)
    masters = MasterWeights(model.parameters())
    for collect in (True, False):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        if collect:
            masters.collect_grads()
    masters.zero_grad()
    assert all(t.grad is None for t in (*masters.masters, *model.parameters()))


def test_frozen_parameters_have_no_master_and_a_missing_gradient_stays_missing():
    model = network(torch.bfloat16)
    model[0].requires_grad_(False)
    masters = MasterWeights(model.parameters())
    assert [m.shape for m in masters.masters] == [p.shape for p in model[2].parameters()]
    model[2].bias.grad = torch.ones_like(model[2].bias)
    masters.collect_grads()
    assert [m.grad is None for m in masters.masters] == [True, False]
    assert model[2].bias.grad is None  # freed
    with pytest.raises(ValueError, match="got none"):
        MasterWeights(model[0].parameters())


def test_the_scaler_unscales_and_skips_on_the_masters():
    """FP16 gradients are refused by the scaler; the masters' are FP32. An inf leaves masters and model as they were."""
    model = network(torch.float16)
    masters, scaler = MasterWeights(model.parameters()), GradScaler(init_scale=1024.0)
    optimizer = torch.optim.SGD(masters.masters, lr=1.0)
    scaler.scale(torch.ones(()))
    start = [m.clone() for m in masters.masters]
    for bad in (False, True):
        for p in model.parameters():
            p.grad = torch.full_like(p, 1024.0)
        if bad:
            model[0].weight.grad[0, 0] = float("inf")
        masters.collect_grads()
        scaler.step(optimizer), scaler.update()
        masters.copy_back()
        assert all(torch.equal(m, s - 1) for m, s in zip(masters.masters, start, strict=True))
    assert scaler.get_scale() == 512.0


def test_saved_masters_bring_back_the_lost_digits():
    model = network(torch.bfloat16)
    masters = MasterWeights(model.parameters())
    with torch.no_grad():
        masters.masters[0] += 1e-5
    saved = masters.state_dict()
    other = MasterWeights(network(torch.bfloat16, seed=1).parameters())
    other.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(other.masters, masters.masters, strict=True))
    assert torch.equal(other.parameters[0], masters.masters[0].bfloat16())


def test_masters_of_another_model_are_refused_and_nothing_changes():
    masters = MasterWeights(network(torch.bfloat16).parameters())
    before = [m.clone() for m in masters.masters]
    with pytest.raises(ValueError, match="expected masters of shapes"):
        masters.load_state_dict({"masters": [torch.zeros(3)]})
    assert all(torch.equal(m, b) for m, b in zip(masters.masters, before, strict=True))
