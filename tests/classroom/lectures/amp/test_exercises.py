"""The truths of lecture 2's exercises, and right answers that are written differently."""

import numpy as np
import pytest
import torch

from classroom.lectures.amp import exercises as check

# ---------------------------------------------------------------- the oracle


def test_flushed_shares_equal_what_the_limit_says():
    """numpy casts in the cases; here the same from the smallest subnormal number: up to half of it goes to zero."""
    for case in check.share_flushed.cases[:4]:
        x, scale = case.arguments
        alive = x[x != 0].double() * scale
        assert case.expected == pytest.approx((alive.abs() <= 2.0**-25).double().mean().item(), abs=1e-7)


def test_a_safe_scale_fits_and_twice_as_much_does_not():
    for case in check.largest_safe_scale.cases:
        (gradients,), scale = case.arguments, case.expected
        largest = max(abs(g) for g in gradients)
        assert largest * scale <= torch.finfo(torch.float16).max < largest * scale * 2


def test_the_operations_of_cuda_are_those_that_the_hint_names():
    """The praise says that four rules differ on CUDA: our table, which a GPU test holds against torch, agrees."""
    from coursekit.amp.autocast_policy import policy_of

    cpu, cuda = policy_of("cpu"), policy_of("cuda")
    differing = [op for op in check.OPERATIONS if (op in cpu) != (op in cuda)]
    assert differing == ["softmax", "layer_norm", "exp", "sum"]


# ---------------------------------------------------------------- right, but written differently


def share_by_numpy(gradients, scale):
    g = gradients.numpy()
    g = g[g != 0] * np.float32(scale)
    return float(np.mean(g.astype(np.float16) == 0)) if g.size else 0.0


def scale_by_halving(gradients):
    scale = 2.0**60
    while max(abs(g) for g in gradients) * scale > 65504:
        scale /= 2
    return scale


def bytes_by_dtype(parameters, recipe):
    bits = {
        "fp32": [32] * 4,
        "autocast": [32] * 4,
        "bf16 only": [16] * 4,
        "fp16 with masters": [16, *[32] * 4],
    }
    return np.int64(sum(parameters * b // 8 for b in bits[recipe]))


def trajectory_from_the_end(broken, growth_interval):
    scales, scale, since = [], 65536, 0
    for number, bad in enumerate(broken, start=1):
        if bad:
            scale, since = scale * 0.5, number
        elif number - since == growth_interval:
            scale, since = scale * 2, number
        scales.append(scale)
    return tuple(scales)


def step_by_hand(scaler, optimizer, model, loss, limit):
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    for p in model.parameters():
        p.grad *= min(1.0, limit / norm.item())
    scaler.step(optimizer)
    scaler.update()


def master_in_double_precision(weight, updates):
    """Rounded more finely on the way, and the same at the end."""
    total = torch.tensor(weight, dtype=torch.float64)
    for update in updates:
        total = total + update
    return total.float().bfloat16()


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("share_flushed", share_by_numpy),
        ("largest_safe_scale", scale_by_halving),
        ("bytes_held", bytes_by_dtype),
        ("scale_trajectory", trajectory_from_the_end),
        ("training_step", step_by_hand),
        ("with_master", master_in_double_precision),
    ],
)
def test_other_right_ways_pass(name, function):
    verdict = getattr(check, name).judge(function)
    assert verdict.passed, verdict


# ---------------------------------------------------------------- wrong, in ways that were once misnamed


def test_65536_as_the_limit_is_not_taken_for_rounding():
    def students(gradients):
        scale = 1.0
        while scale * max(map(abs, gradients)) < 65536:
            scale *= 2
        while scale * max(map(abs, gradients)) > 65536:
            scale /= 2
        return scale

    assert check.largest_safe_scale.judge(students).misconception == "65,536 as the limit"


def test_two_mistakes_at_once_are_not_explained_by_one():
    """Autocast with 16-bit weights and 16-bit gradients beside masters: each mistake explains half."""

    def students(parameters, recipe):
        return parameters * {"fp32": 16, "autocast": 12, "bf16 only": 8, "fp16 with masters": 16}[recipe]

    verdict = check.bytes_held.judge(students)
    assert verdict.misconception is None and verdict.case == "bytes_held(56, 'autocast')"


def test_a_master_in_pythons_floats_that_is_never_rounded_is_named():
    verdict = check.with_master.judge(lambda weight, updates: weight + sum(updates))
    assert verdict.misconception == "never rounded"


def test_an_entry_of_the_weights_does_not_read_as_an_index():
    verdict = check.training_step.judge(lambda scaler, optimizer, model, loss, limit: loss.backward())
    assert verdict.case == "five steps of network 0, norm at most 0.1, entry [0]"
