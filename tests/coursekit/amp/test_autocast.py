"""Regions: nesting, holes, the cache of casts, and what the region refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from coursekit.amp.autocast import autocast, cached_cast
from coursekit.amp.autocast_policy import POLICY, operation_name, rule_for
from coursekit.amp.recorder import Recorder

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


def weight(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("region", [autocast, torch.autocast])
def test_inner_regions_win_and_the_outer_one_is_back_afterwards(region):
    x, w = torch.randn(2, 4), torch.randn(4, 4)
    found = []
    with region("cpu", BF16):
        found.append((x @ w).dtype)
        with region("cpu", FP16):
            found.append((x @ w).dtype)
            with region("cpu", enabled=False):
                found.append((x @ w).dtype)
            found.append((x @ w).dtype)
        found.append((x @ w).dtype)
    found.append((x @ w).dtype)
    assert found == [BF16, FP16, FP32, FP16, BF16, FP32]


def test_a_cast_is_kept_for_its_dtype():
    """torch keeps one cast of a weight whatever its dtype, and fails where an inner region wants another."""
    x, w = torch.randn(2, 4), weight(4, 4)
    with autocast("cpu", BF16):
        x @ w
        with autocast("cpu", FP16):
            assert (x @ w).dtype == FP16
    with torch.autocast("cpu", BF16):
        x @ w
        with torch.autocast("cpu", FP16), pytest.raises(RuntimeError, match="same dtype"):
            x @ w


@pytest.mark.parametrize(("outer", "inner"), [(autocast, torch.autocast), (torch.autocast, autocast)])
def test_regions_mix_with_those_of_torch(outer, inner):
    x, w = torch.randn(2, 4), torch.randn(4, 4)
    with outer("cpu", BF16):
        with inner("cpu", enabled=False):
            assert (x @ w).dtype == FP32
        with inner("cpu", FP16):
            assert (x @ w).dtype == FP16
        assert (x @ w).dtype == BF16
    assert not torch.is_autocast_enabled("cpu")


def test_torch_can_be_asked_within():
    before = torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()
    with autocast("cpu", FP16, cache_enabled=False):
        assert torch.is_autocast_enabled("cpu") and not torch.is_autocast_cache_enabled()
        assert torch.get_autocast_dtype("cpu") == FP16
    assert (torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()) == before


def test_an_error_within_leaves_nothing_switched_on():
    with pytest.raises(KeyError), autocast("cpu", BF16):
        raise KeyError
    assert not torch.is_autocast_enabled("cpu")
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == FP32


def test_one_region_can_be_entered_within_itself_and_again():
    region, x = autocast("cpu", BF16), torch.ones(2, 2)
    for _ in range(2):
        with region, region:
            assert (x @ x).dtype == BF16
        assert (x @ x).dtype == FP32


def test_a_region_is_a_decorator_too():
    @autocast("cpu", BF16)
    def product(a, b):
        return a @ b

    assert product(torch.ones(2, 2), torch.ones(2, 2)).dtype == BF16


@pytest.mark.parametrize("region", [autocast, torch.autocast])
@pytest.mark.parametrize(("cache", "casts"), [(True, 1), (False, 3)])
def test_a_weight_is_cast_once_in_a_region(region, cache, casts):
    x, w = torch.randn(2, 4).to(BF16), weight(4, 4)
    with Recorder() as recorder, region("cpu", BF16, cache_enabled=cache):
        loss = (x @ w).sum() + (x @ w).sum()
        with region("cpu", BF16, cache_enabled=cache):
            loss = loss + (x @ w).sum()
    assert recorder.casts() == casts
    loss.backward()
    assert w.grad.dtype == FP32


@pytest.mark.parametrize("region", [autocast, torch.autocast])
@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_cast_made_without_gradients_does_not_cut_off_the_weight(region, without):
    x, w = torch.randn(2, 4).to(BF16), weight(4, 4)
    with region("cpu", BF16):
        with without():
            assert not (x @ w).requires_grad
        y = x @ w
    y.sum().backward()
    assert w.grad is not None


@pytest.mark.parametrize("region", [autocast, torch.autocast])
def test_a_cast_made_under_no_grad_is_kept_too(region):
    x, w = torch.randn(2, 4).to(BF16), weight(4, 4)
    with Recorder() as recorder, region("cpu", BF16):
        with torch.no_grad():
            x @ w
        x @ w
    assert recorder.casts() == 1


@pytest.mark.parametrize("region", [autocast, torch.autocast])
def test_what_is_no_leaf_or_wants_no_gradient_is_not_kept(region):
    x, w = torch.randn(2, 4).to(BF16), weight(4, 4)
    with Recorder() as recorder, region("cpu", BF16):
        for other in (w.detach(), w * 1, w.view(4, 4)):
            x @ other, x @ other
    assert recorder.casts() == 6


def test_the_next_region_sees_the_changed_weight():
    x, w = torch.eye(4), weight(4, 4)
    for _ in range(2):
        with autocast("cpu", BF16):
            assert torch.equal(x @ w, w.to(BF16))
        with torch.no_grad():
            w.add_(1)


def test_outside_a_region_nothing_is_kept():
    w = weight(2, 2)
    assert cached_cast(w, BF16) is not cached_cast(w, BF16)


def test_gradients_are_those_of_torch_when_backward_runs_within():
    grads = []
    for region in (autocast, torch.autocast):
        w = weight(4, 4)
        with region("cpu", BF16):
            F.cross_entropy(torch.ones(3, 4) @ w, torch.tensor([0, 1, 2])).backward()
        grads.append(w.grad)
    assert grads[0].dtype == FP32 and torch.equal(*grads)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_is_recomputed_in_the_same_dtypes(reentrant):
    """The backward runs outside: checkpoint opens the region of torch whose flags it saw in the forward."""
    found = []
    for region in (autocast, torch.autocast):
        w, x = weight(4, 4), weight(3, 4)
        with Recorder() as recorder:
            with region("cpu", BF16):
                y = checkpoint(lambda x, w=w: F.gelu(x @ w) @ w, x, use_reentrant=reentrant)
            y.sum().backward()
        found.append((recorder.rows, w.grad))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])


def test_functions_written_in_python_are_looked_into():
    x, w, b = torch.randn(2, 3, 8), weight(24, 8), weight(24)
    out, none = weight(8, 8), torch.zeros(8)
    results = []
    for region in (autocast, torch.autocast):
        with region("cpu", BF16):
            y, _ = F.multi_head_attention_forward(
                x, x, x, 8, 2, w, b, None, None, False, 0.0, out, none, need_weights=True
            )
        results.append(y)
    assert results[0].dtype == BF16 and torch.equal(*results)


@pytest.mark.parametrize("region", [autocast, torch.autocast])
def test_promotion_takes_a_third_dtype_after_float32_only(region):
    with region("cpu", BF16):
        assert torch.cat([torch.ones(2), torch.ones(2, dtype=FP16)]).dtype == FP32
        for first in (BF16, FP16):
            with pytest.raises(RuntimeError, match=r"for cat, got torch.float16|Unexpected"):
                torch.cat([torch.ones(2, dtype=first), torch.ones(2, dtype=FP16)])


def test_refused_operations_say_what_to_do():
    with (
        autocast("cpu", BF16, policy=POLICY["cuda"]),
        pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"),
    ):
        F.binary_cross_entropy(torch.ones(2), torch.ones(2))


def test_float32_out_respects_a_dtype_of_the_caller():
    x = torch.ones(2, 2, dtype=BF16)
    with autocast("cpu", BF16, policy=POLICY["cuda"]):
        assert x.sum().dtype == FP32
        assert F.softmax(x, -1).dtype == FP32
        assert F.softmax(x, -1, dtype=FP16).dtype == FP16
        assert torch.softmax(x, -1, FP16).dtype == FP16
        assert x.double().sum().dtype == torch.float64
        assert torch.ones(2, dtype=torch.int64).sum().dtype == torch.int64


@pytest.mark.parametrize(
    ("arguments", "match"), [(("tpu", BF16), "cpu"), (("cpu:0", BF16), "without an index")]
)
def test_other_devices_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        autocast(*arguments)


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="enabled=False"):
        autocast("cpu", torch.float32)
    autocast("cpu", torch.float32, enabled=False)


def test_rules_by_name():
    assert rule_for("nll_loss_nd", "cpu") == "fp32" and rule_for("concat", "cpu") == "promote"
    assert rule_for("layer_norm", "cpu") is None and rule_for("layer_norm", "cuda") == "fp32"
    assert operation_name("einsum", ("ij,ij",)) == "einsum"
    assert operation_name("einsum", ("i j, j k -> i j k",)) == "einsum_without_contraction"
    assert operation_name("pad", (None, [1, 1, 1, 1])) == "constant_pad2d"
