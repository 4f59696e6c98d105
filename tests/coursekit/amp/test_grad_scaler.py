"""Our GradScaler beside torch.amp.GradScaler: the same scale, the same skipped steps, the same weights."""

import copy
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.amp.grad_scaler import GradScaler
from coursekit.amp.loss_scale import LossScale

SPECIALS = (math.inf, -math.inf, math.nan)


def theirs(**settings):
    return torch.amp.GradScaler("cpu", **settings)


def drive(scaler, pattern):
    """(scales before each step, indices of skipped steps): one number is the whole model, `pattern` its gradients."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scales, skipped = [], []
    for number, gradient in enumerate(pattern):
        scaler.scale(torch.ones(()))  # torch rounds its scale to FP32 at the first call
        scales.append(scaler.get_scale())
        weight.grad = torch.tensor([gradient])
        before = weight.item()
        scaler.step(optimizer)
        scaler.update()
        if weight.item() == before:
            skipped.append(number)
    return [*scales, scaler.get_scale()], skipped


def random_pattern(steps, share, seed):
    """Gradients of 1, some of them inf or NaN, alone and in bursts."""
    dice, pattern = random.Random(seed), []
    while len(pattern) < steps:
        broken = dice.random() < share
        run = dice.choice((1, 1, 2, 5, 20))
        pattern += [dice.choice(SPECIALS) if broken else 1.0 for _ in range(run)]
    return pattern[:steps]


@pytest.mark.parametrize(
    ("seed", "share", "settings"),
    [
        (0, 0.02, {"growth_interval": 20}),
        (1, 0.3, {"growth_interval": 3, "growth_factor": 1.7, "backoff_factor": 0.3}),
        (2, 0.001, {"growth_interval": 50, "init_scale": 1.0}),  # climbs until FP32 ends
        (3, 0.9, {"growth_interval": 1}),  # falls until it underflows
    ],
)
def test_10000_steps_equal_torch(seed, share, settings):
    pattern = random_pattern(10_000, share, seed)
    scales, skipped = drive(GradScaler(**settings), pattern)
    torch_scales, torch_skipped = drive(theirs(**settings), pattern)
    assert scales == torch_scales
    assert skipped == torch_skipped
    assert len(set(scales)) > 3 and len(skipped) > 5


@settings(max_examples=60, deadline=None)
@given(
    pattern=st.lists(st.sampled_from((1.0, 1.0, 1.0, *SPECIALS)), min_size=1, max_size=40),
    interval=st.integers(1, 5),
    growth=st.floats(1.01, 16),
    backoff=st.floats(0.01, 0.99),
    start=st.floats(1e-3, 1e6),
)
def test_any_pattern_and_any_settings_equal_torch(pattern, interval, growth, backoff, start):
    chosen = {
        "init_scale": start,
        "growth_interval": interval,
        "growth_factor": growth,
        "backoff_factor": backoff,
    }
    assert drive(GradScaler(**chosen), pattern) == drive(theirs(**chosen), pattern)


class KeepsCounting(LossScale):
    """Wrong: an inf shrinks the scale, but does not start the count of good iterations again."""

    def update(self, found_inf):
        tracker = self.growth_tracker
        super().update(found_inf)
        self.growth_tracker = tracker if found_inf else self.growth_tracker


class Late(LossScale):
    """Wrong: grows one good iteration too late."""

    def update(self, found_inf):
        self.growth_interval += 1
        super().update(found_inf)
        self.growth_interval -= 1


class Forgets(GradScaler):
    """Wrong: the step is done although a gradient is inf."""

    def step(self, optimizer):
        self.unscale_(optimizer)
        optimizer.step()


@pytest.mark.parametrize("planted", [KeepsCounting, Late])
def test_a_wrong_rule_is_caught(planted):
    wrong = GradScaler(growth_interval=4)
    wrong._rule = planted(growth_interval=4)
    pattern = random_pattern(500, 0.05, 0)
    assert drive(wrong, pattern)[0] != drive(theirs(growth_interval=4), pattern)[0]


def test_a_step_that_is_not_skipped_is_caught():
    pattern = random_pattern(500, 0.05, 0)
    wrong, reference = Forgets(growth_interval=4), theirs(growth_interval=4)
    assert drive(wrong, pattern)[1] != drive(reference, pattern)[1]


def test_static_scaling_never_changes_the_scale_and_still_skips():
    scales, skipped = drive(
        GradScaler(init_scale=128.0, growth_interval=None), [1.0, math.inf, 1.0, math.nan] * 50
    )
    assert set(scales) == {128.0}
    assert skipped == [k for k in range(200) if k % 2]


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))


def train(scaler, model, steps=12, dtype=torch.float32):
    """Two optimizers, clipping after unscaling, and an overflow in the second one at every fourth step."""
    first, second = torch.optim.AdamW(model[0].parameters()), torch.optim.SGD(model[2].parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        model.zero_grad()
        x = torch.randn(16, 6, generator=generator).to(dtype)
        scaler.scale(model(x).square().mean()).backward()
        if step % 4 == 3:
            model[2].weight.grad[0, 0] = math.inf
        scaler.unscale_(first)
        torch.nn.utils.clip_grad_norm_(model[0].parameters(), 0.1)
        scaler.step(first), scaler.step(second)
        scaler.update()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_weights_after_training_with_two_optimizers_equal_torch():
    """An inf in one optimizer's gradients skips that one only, and shrinks the scale of both."""
    ours, reference = GradScaler(growth_interval=2), theirs(growth_interval=2)
    assert torch.equal(train(ours, network()), train(reference, network()))
    assert ours.get_scale() == reference.get_scale()


@pytest.mark.parametrize("ours_saves", [True, False])
def test_a_checkpoint_moves_between_ours_and_torch(ours_saves):
    pattern = random_pattern(300, 0.05, 4)
    saver, loader = (GradScaler, theirs) if ours_saves else (theirs, GradScaler)
    saved = saver(growth_interval=7)
    drive(saved, pattern[:150])
    loaded = loader()
    loaded.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert drive(loaded, pattern[150:]) == drive(saved, pattern[150:])


@pytest.mark.parametrize("make", [GradScaler, theirs], ids=["ours", "torch"])
def test_scaling_a_loss_a_list_and_a_half_precision_loss(make):
    scaler = make(init_scale=4.0)
    assert scaler.scale(torch.tensor(0.5)).item() == 2.0
    assert [t.item() for t in scaler.scale([torch.tensor(1.0), torch.tensor(2.0)])] == [4.0, 8.0]
    half = make().scale(torch.tensor(3.0).half())
    assert half.dtype == torch.float32 and half.item() == 3 * 65536


@pytest.mark.parametrize("make", [GradScaler, theirs], ids=["ours", "torch"])
def test_a_disabled_scaler_passes_everything_on(make):
    scaler, weight = make(enabled=False), torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer), scaler.step(optimizer), scaler.update()
    assert weight.item() == 0.0 and scaler.state_dict() == {} and scaler.get_scale() == 1.0


def embedding_step(scaler, indices):
    """One step of SGD on a sparse gradient in which an index may occur twice: the weights after it."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(8, 3, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    scaler.scale(table(torch.tensor(indices)).square().sum()).backward()
    assert table.weight.grad.is_sparse
    scaler.step(optimizer), scaler.update()
    return table.weight.detach()


def test_sparse_gradients_equal_torch():
    ours, reference = embedding_step(GradScaler(), [1, 5, 1]), embedding_step(theirs(), [1, 5, 1])
    assert torch.equal(ours, reference)
    torch.manual_seed(0)
    moved = (ours != torch.nn.Embedding(8, 3).weight).any(1)
    assert moved.tolist() == [k in (1, 5) for k in range(8)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_in_bf16_and_in_float64_equal_torch(dtype):
    ours, reference = GradScaler(growth_interval=2), theirs(growth_interval=2)
    results = [train(scaler, network().to(dtype), dtype=dtype) for scaler in (ours, reference)]
    assert torch.equal(*results) and ours.get_scale() == reference.get_scale()


def test_a_new_scale_is_set_as_torch_sets_it():
    """By hand, from a number or a tensor; the count of good iterations goes on."""
    ours, reference = GradScaler(growth_interval=3), theirs(growth_interval=3)
    for scaler in (ours, reference):
        drive(scaler, [1.0, 1.0])
        scaler.update(0.1)
        assert scaler.get_scale() == torch.tensor(0.1).item()
        scaler.update(torch.tensor(8.0))
    assert drive(ours, [1.0] * 5) == drive(reference, [1.0] * 5)


def prepared(dtype=torch.float32):
    weight = torch.ones(1, dtype=dtype, requires_grad=True)
    weight.grad = torch.ones(1, dtype=dtype)
    scaler = GradScaler()
    scaler.scale(torch.ones(()))
    return scaler, torch.optim.SGD([weight], lr=1.0)


def twice_unscaled(scaler, optimizer):
    scaler.unscale_(optimizer), scaler.unscale_(optimizer)


def twice_stepped(scaler, optimizer):
    scaler.step(optimizer), scaler.step(optimizer)


def unscaled_after_step(scaler, optimizer):
    scaler.step(optimizer), scaler.unscale_(optimizer)


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (twice_unscaled, "already unscaled"),
        (twice_stepped, "a second one"),
        (unscaled_after_step, "already stepped"),
        (lambda scaler, optimizer: scaler.update(), "got none"),
        (lambda scaler, optimizer: scaler.step(optimizer, closure=lambda: None), "without a closure"),
        (lambda scaler, optimizer: GradScaler().step(optimizer), "never called"),
        (lambda scaler, optimizer: optimizer.zero_grad() or scaler.step(optimizer), "is None"),
    ],
)
def test_misuse_is_refused_with_what_to_do(misuse, words):
    with pytest.raises(RuntimeError, match=words):
        misuse(*prepared())


@pytest.mark.parametrize("make", [GradScaler, theirs], ids=["ours", "torch"])
def test_fp16_gradients_are_refused(make):
    _, optimizer = prepared(torch.float16)
    scaler = make()
    scaler.scale(torch.ones(()))
    with pytest.raises(ValueError, match="FP16"):
        scaler.step(optimizer)


def test_settings_that_cannot_work_are_refused_unless_disabled():
    with pytest.raises(ValueError, match="growth_factor"):
        GradScaler(growth_factor=1.0)
    GradScaler(growth_factor=1.0, enabled=False)
    torch.amp.GradScaler("cpu", growth_factor=1.0, enabled=False)


def test_only_tensors_are_scaled_and_a_whole_state_is_loaded():
    with pytest.raises(TypeError, match=r"not loss\.item"):
        GradScaler().scale(0.5)
    scaler = GradScaler(init_scale=2.0)
    with pytest.raises(ValueError, match="missing: growth_interval"):
        scaler.load_state_dict({k: v for k, v in scaler.state_dict().items() if k != "growth_interval"})
    with pytest.raises(ValueError, match="scale must be a positive number"):
        scaler.load_state_dict(scaler.state_dict() | {"scale": math.nan})
    assert scaler.get_scale() == 2.0


@pytest.mark.gpu
def test_on_a_gpu_the_scale_and_the_weights_equal_torch():
    ours, reference = GradScaler(growth_interval=2), torch.amp.GradScaler("cuda", growth_interval=2)
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)).cuda()
    results = []
    for scaler in (ours, reference):
        model = network().cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        for step in range(12):
            model.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = model(x).square().mean() * (math.inf if step % 4 == 3 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append((scaler.get_scale(), [p.detach().cpu().tolist() for p in model.parameters()]))
    assert results[0] == results[1]
