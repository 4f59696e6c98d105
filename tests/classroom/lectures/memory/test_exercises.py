"""Lecture 3's exercises: their oracles against real tensors and libraries, and answers that are right in odd ways."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch.nn import functional as F

from classroom.lectures.memory import exercises as check


def checkpoint_with(backward):
    """A student's checkpoint with this backward; `apply` gets the layer, x and each parameter."""

    def checkpointed(layer, x):
        class Mine(torch.autograd.Function):
            @staticmethod
            def forward(ctx, layer, x, *parameters):
                ctx.layer = layer
                ctx.save_for_backward(x)
                return layer(x)

        Mine.backward = staticmethod(backward)
        return Mine.apply(layer, x, *layer.parameters())

    return checkpointed


def test_a_backward_that_records_nothing_is_told_so_and_not_in_torchs_words():
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return None, *torch.autograd.grad(ctx.layer(x), (x, *ctx.layer.parameters()), gradient)

    verdict = check.checkpointed.judge(checkpoint_with(backward))
    assert verdict.misconception == "recomputed without a graph" and "enable_grad" in verdict.words


def test_too_few_gradients_are_an_error_in_one_sentence():
    verdict = check.checkpointed.judge(checkpoint_with(lambda ctx, gradient: (None, gradient)))
    assert verdict.status == "error" and "incorrect number of gradients" in verdict.words
    assert "Traceback" not in str(verdict)


@pytest.mark.parametrize("options", [{"use_reentrant": True}, {"use_reentrant": False}], ids=str)
def test_the_librarys_checkpoint_is_named_under_any_name(options):
    from torch.utils.checkpoint import checkpoint as imported_under_another_name

    verdict = check.checkpointed.judge(lambda layer, x: imported_under_another_name(layer, x, **options))
    assert verdict.status == "wrong" and verdict.misconception == "torch.utils.checkpoint", verdict


def test_the_librarys_checkpoint_is_named_before_it_imports_torchs_compiler():
    """The first call of it in a process takes seconds: a student would read "Took too long"."""
    code = """
import sys, torch.utils.checkpoint
from classroom.lectures.memory import exercises as check
cheat = lambda layer, x: torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
print(check.checkpointed.judge(cheat).misconception, "torch._dynamo" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["torch.utils.checkpoint", "False"]


def test_the_librarys_checkpoint_works_again_after_the_check():
    """It keeps its input and nothing else."""

    def library(layer, x):
        return torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)

    check.checkpointed.judge(library)
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.GELU())
    x = torch.randn(2, 3, requires_grad=True)
    assert kept_bytes(lambda: library(layer, x), layer.parameters()) == x.nbytes


# ---------------------------------------------------------------- the oracles


def test_ledgers_have_the_bytes_that_the_course_names():
    """16 in FP32, under torch.amp and with masters; 18 and 20 with FP32 gradients."""
    per_parameter = [check.bytes_of_tensors(256, dtypes) / 256 for dtypes in check.LEDGERS.values()]
    assert per_parameter == [16, 16, 16, 18, 20, 10 + 2 / 64, 8]


def test_parameter_counts_are_the_published_ones():
    """Llama 2 7B, Llama 3 8B and SmolLM2 as their checkpoints have them; the tiny model from its file."""
    from safetensors import safe_open

    import classroom.models

    counts = [case.expected for case in check.count_parameters.cases]
    assert counts[1:] == [6_738_415_616, 8_030_261_248, 134_515_008, 12_247_782_400]
    with safe_open(Path(classroom.models.__file__).parent / "tiny" / "model.safetensors", "pt") as file:
        assert counts[0] == sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


class Dropout(torch.autograd.Function):
    """Dropout that keeps a mask of one byte per element, as on a GPU."""

    @staticmethod
    def forward(ctx, x):
        mask = torch.rand(x.shape) < 0.9
        ctx.save_for_backward(mask)
        return x * mask / 0.9

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0] / 0.9


def gpt_layer(x, weights, heads):
    """Attention and MLP of a GPT in BF16, its norms without weights: x [s, b, h] -> [s, b, h]."""
    s, b, h = x.shape
    y = F.layer_norm(x, (h,))
    q, k, v = (F.linear(y, w).view(s, b * heads, h // heads).transpose(0, 1) for w in weights[:3])
    scores = q @ k.transpose(1, 2) * (h // heads) ** -0.5
    mixed = Dropout.apply(scores.softmax(-1)) @ v
    x = x + Dropout.apply(F.linear(mixed.transpose(0, 1).reshape(s, b, h), weights[3]))
    y = F.layer_norm(x, (h,))
    return x + Dropout.apply(F.linear(F.gelu(F.linear(y, weights[4])), weights[5]))


def kept_bytes(run, weights):
    """Bytes that autograd packs away, each storage once, without weights and the tiny statistics of the norms."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    ours = {w.untyped_storage().data_ptr() for w in weights}
    sizes = [
        t.untyped_storage().nbytes() for at, t in kept.items() if at not in ours and t.shape[-1:] != (1,)
    ]
    del output
    return sum(sizes)


def layers_of(count, h):
    shapes = [(h, h)] * 4 + [(4 * h, h), (h, 4 * h)]
    return [[(torch.randn(shape) / 8).bfloat16().requires_grad_() for shape in shapes] for _ in range(count)]


@pytest.mark.parametrize(("s", "b", "h", "a"), [(16, 2, 32, 4), (10, 3, 48, 6), (64, 1, 32, 4)])
def test_the_list_of_kept_tensors_is_what_a_real_layer_keeps(s, b, h, a):
    """Measured with saved-tensor hooks, equal to the list's sum and to the paper's s b h (34 + 5 a s / h)."""
    (weights,) = layers_of(1, h)
    x = torch.randn(s, b, h, dtype=torch.bfloat16, requires_grad=True)
    measured = kept_bytes(lambda: gpt_layer(x, weights, a), weights)
    listed = sum(check.kept_by_a_layer(s, b, h, a).values())
    assert measured == listed == s * b * h * 34 + 5 * a * s * s * b


def test_with_checkpoints_a_real_stack_keeps_the_inputs():
    """torch.utils.checkpoint, three layers: 2 s b h bytes each. The rule adds one layer in full."""
    from torch.utils.checkpoint import checkpoint

    s, b, h, a = 16, 2, 32, 4
    stack = layers_of(3, h)

    def run():
        x = torch.randn(s, b, h, dtype=torch.bfloat16, requires_grad=True)
        for weights in stack:
            x = checkpoint(gpt_layer, x, weights, a, use_reentrant=False)
        return x

    measured = kept_bytes(run, [w for weights in stack for w in weights])
    assert measured == 3 * 2 * s * b * h
    (case,) = (c for c in check.activation_bytes.cases if c.arguments == (3, s, b, h, a, True))
    assert case.expected == measured + s * b * h * 34 + 5 * a * s * s * b


def test_the_peaks_lie_in_different_phases():
    """Forward, loss, backward, optimizer: a student cannot guess."""
    phases = {case.expected[1] for case in check.peak_memory.cases}
    assert phases >= {"forward", "loss", "backward", "optimizer"}
    for case in check.peak_memory.cases:
        (events,), (peak, _, shares) = case.arguments, case.expected
        heights = list(itertools.accumulate(size for *_, size in events))
        assert max(heights) == peak and sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("which", [0, 1])
def test_a_mean_of_means_is_right_only_where_micro_batches_count_alike(which):
    """The first case is there to show that the mistake hides where all are equal."""
    (mistake,) = (m for m in check.accumulate.mistakes if m.name == "a mean of means")
    case = check.accumulate.cases[which]
    model, micro_batches = case.arguments
    got = check.accumulate.ask(mistake.program, model, micro_batches)
    model.zero_grad()
    assert check.accumulate.answer.right(case.expected, got) == (which == 0)


def test_no_value_lies_near_the_middle_of_two_codes():
    """Another order of multiplications cannot choose another code."""
    for case in check.quantize_blockwise.cases:
        x, code, size = case.arguments
        for block in x.double().split(size):
            scaled = block / (block.abs().max() or 1.0)
            nearest, second = (scaled[:, None] - code.double()).abs().topk(2, largest=False).values.T
            assert (second - nearest > 1e-6 * scaled.abs() + 1e-8).all()


def test_bitsandbytes_chooses_the_same_codes_with_its_own_map():
    """Our brute force against the library's CPU kernel: its 8-bit map, blocks of 64, a short one at the end."""
    import bitsandbytes.functional as bnb

    x = torch.randn(200, generator=torch.Generator().manual_seed(3))
    code = bnb.create_dynamic_map()
    codes, state = bnb.quantize_blockwise(x, code=code, blocksize=64)
    ours, scales, restored = check.by_brute_force(x.tolist(), code.tolist(), 64)
    assert ours == codes.tolist() and scales == state.absmax.tolist()
    assert restored == pytest.approx(bnb.dequantize_blockwise(codes, state).tolist(), rel=1e-6)


def test_every_best_choice_is_the_only_one():
    """No two combinations take the same least time, so that any right program finds the same names."""
    for case in check.cheapest_fit.cases:
        needed, card, changes = case.arguments
        times = []
        for count in range(len(changes) + 1):
            for chosen in itertools.combinations(changes, count):
                fits = needed - sum(saved for _, _, saved, _ in chosen) <= card
                if fits and len({group for _, group, _, _ in chosen}) == count:
                    times.append(
                        (math.prod(factor for *_, factor in chosen), sorted(name for name, *_ in chosen))
                    )
        times.sort()
        assert (case.expected is None) == (not times)
        assert len(times) < 2 or times[1][0] > times[0][0] * 1.001
        assert not times or times[0][1] == sorted(case.expected)


def test_some_cases_fit_as_they_are_and_some_never():
    answers = [case.expected for case in check.cheapest_fit.cases]
    assert [] in answers and None in answers and max(len(a) for a in answers if a) >= 3


# ---------------------------------------------------------------- right, but written differently


def size_by_bits(parameters, dtypes, unit):
    bits = {"fp32": 32, "bf16": 16, "fp16": 16, "8-bit": 8}
    held = sum(parameters * bits[d] for d in dtypes) // 8
    held += sum((parameters + 255) // 256 * 4 for d in dtypes if d == "8-bit")
    return np.float64(held) / {"GB": 1e9, "GiB": 1024.0**3}[unit]


def bytes_by_the_formula(layers, s, b, h, a, checkpointed):
    layer = s * b * h * (34 + 5 * a * s / h)
    return layers * 2 * s * b * h + layer if checkpointed else layers * layer


def peak_with_zero_shares(events):
    names = {category for _, category, _ in events}
    heights = np.cumsum([size for *_, size in events])
    at = int(np.argmax(heights))
    held = {n: sum(size for _, c, size in events[: at + 1] if c == n) for n in names}
    return [heights[at], events[at][0], {n: held[n] / heights[at] for n in names}]


def accumulate_with_weights(model, micro_batches):
    counts = [int((targets != -100).sum()) for _, targets in micro_batches]
    for (inputs, targets), count in zip(micro_batches, counts, strict=True):
        if count:
            (F.cross_entropy(model(inputs), targets) * (count / sum(counts))).backward()


def quantize_padded(x, code, blocksize):
    """All blocks at once, by the midpoints between codes."""
    blocks = F.pad(x, (0, -len(x) % blocksize)).view(-1, blocksize)
    absmax = blocks.abs().amax(1)
    codes = torch.bucketize(blocks / absmax.clamp(min=1e-30)[:, None], (code[1:] + code[:-1]) / 2)
    restored = code[codes] * absmax[:, None]
    return codes.flatten()[: len(x)].to(torch.uint8), absmax, restored.flatten()[: len(x)]


def fit_by_groups(needed, card, changes):
    groups = {}
    for change in changes:
        groups.setdefault(change[1], [None]).append(change)
    chosen = [[c for c in choice if c] for choice in itertools.product(*groups.values())]
    fitting = [c for c in chosen if sum(change[2] for change in c) >= needed - card]
    best = min(fitting, key=lambda c: sum(math.log(change[3]) for change in c), default=None)
    return None if best is None else {change[0] for change in best}


def checkpoint_by_closure(layer, x):
    """The layer is not an argument of `apply`, and `.backward()` inside gives the parameters their gradients."""

    class Mine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.random_state = torch.random.get_rng_state()
            ctx.save_for_backward(x)
            return layer(x)

        @staticmethod
        def backward(ctx, gradient):
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            before = torch.random.get_rng_state()
            torch.random.set_rng_state(ctx.random_state)
            with torch.enable_grad():
                layer(leaf).backward(gradient)
            torch.random.set_rng_state(before)
            return leaf.grad

    return Mine.apply(x)


RIGHT = [
    ("state_size", size_by_bits),
    ("activation_bytes", bytes_by_the_formula),
    ("peak_memory", peak_with_zero_shares),
    ("accumulate", accumulate_with_weights),
    ("quantize_blockwise", quantize_padded),
    ("cheapest_fit", fit_by_groups),
    ("checkpointed", checkpoint_by_closure),
]


@pytest.mark.parametrize(("name", "function"), RIGHT)
def test_other_right_ways_pass(name, function):
    verdict = getattr(check, name).judge(function)
    assert verdict.passed, verdict
