"""Every operation of the table beside torch's own: the same bytes while it runs, held after it, saved for backward, and
the same in backward."""

import pytest
import torch
from torch.nn import functional as F

from coursekit.memory import operations as op
from coursekit.memory.activations import block_of_scores

B, S, H, A, W = 4, 32, 64, 4, 192  # batch, sequence, hidden, heads, a wider hidden
ROWS = B * S
LOW = torch.bfloat16


def X(*shape, dtype=torch.float32, grad=True):
    return torch.randn(shape, dtype=dtype, requires_grad=grad)


def P(*shape, dtype=torch.float32, grad=True):
    return torch.nn.Parameter(torch.randn(shape, dtype=dtype), requires_grad=grad)


def normed(kind):
    """transformers' norm as a function of x and its weight."""
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = {"llama": LlamaRMSNorm, "gemma": GemmaRMSNorm}[kind](H)

    def function(x, weight):
        norm.weight = weight
        return norm(x)

    return function


def new_gelu(x):
    from transformers.activations import NewGELUActivation

    return NewGELUActivation()(x)


def turned(x, cos, sin):
    from transformers.models.llama.modeling_llama import rotate_half

    return (x * cos) + (rotate_half(x) * sin)


def repeated(x):
    from transformers.models.llama.modeling_llama import repeat_kv

    return repeat_kv(x, 4)


def agree(torch_bytes, bench, function, tensors, operation, inputs, *, slack=64, transient=True):
    """transient   False where the CPU's kernel takes room for copies of its own, that a GPU's does not: only what stays
    is compared."""
    measured, shadow = torch_bytes(function, *tensors), bench.bytes(operation, *inputs)
    names = ("forward", "held", "saved", "backward", "left") if transient else ("held", "saved", "left")
    assert shadow.near(measured, names, slack), f"shadow {shadow}\ntorch  {measured}"


def width(dtype):
    return torch.empty(0, dtype=dtype).element_size()


PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, LOW], ids=["fp32", "bf16"])


@PRECISIONS
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(torch_bytes, lab, dtype, trained, wanted, bias):
    """x is saved if the weight is trained, for nothing else; backward makes dX, dW, db for those that want them."""
    if not (trained or wanted):
        return  # nothing to differentiate
    bench = lab(width(dtype))
    tensors = [X(B, S, H, dtype=dtype, grad=wanted), P(W, H, dtype=dtype, grad=trained)]
    inputs = [bench.x(B, S, H, grad=wanted), bench.weight(W, H, grad=trained)]
    if bias:
        tensors.append(P(W, dtype=dtype, grad=trained))
        inputs.append(bench.weight(W, grad=trained, name="bias"))

    def shadow(tape, x, weight, bias=None):
        return op.linear(tape, x, weight, W, bias=bias)

    agree(torch_bytes, bench, F.linear, tensors, shadow, inputs, transient=dtype != LOW)  # oneDNN packs BF16


@PRECISIONS
@pytest.mark.parametrize("wants", [(True, True), (True, False), (False, True)])
def test_multiply(torch_bytes, lab, dtype, wants):
    """A factor is saved if the other one wants a gradient."""
    bench = lab(width(dtype))
    tensors = [X(B, S, H, dtype=dtype, grad=want) for want in wants]
    inputs = [bench.x(B, S, H, grad=want) for want in wants]
    agree(torch_bytes, bench, torch.mul, tensors, op.multiply, inputs)


@pytest.mark.parametrize("trained", [True, False])
def test_multiply_with_a_gain_for_each_column(torch_bytes, lab, trained):
    """The gradient of a factor that was broadcast is summed from one of full size."""
    bench = lab()
    agree(
        torch_bytes, bench, lambda w, x: w * x, [P(H, grad=trained), X(B, S, H)],
        op.multiply, [bench.weight(H, grad=trained), bench.x(B, S, H)],
    )  # fmt: skip


@PRECISIONS
@pytest.mark.parametrize("trained", [True, False])
def test_rms_norm(torch_bytes, lab, dtype, trained):
    bench = lab(width(dtype))
    agree(
        torch_bytes, bench, normed("llama"), [X(B, S, H, dtype=dtype), P(H, dtype=dtype, grad=trained)],
        lambda tape, x, w: op.rms_norm(tape, x, w, ROWS), [bench.x(B, S, H), bench.weight(H, grad=trained)],
        slack=4 * ROWS,  # a number for each row: mean + epsilon
    )  # fmt: skip


@PRECISIONS
def test_gemmas_rms_norm(torch_bytes, lab, dtype):
    bench = lab(width(dtype))
    agree(
        torch_bytes, bench, normed("gemma"), [X(B, S, H, dtype=dtype), P(H, dtype=dtype)],
        lambda tape, x, w: op.rms_norm(tape, x, w, ROWS, gemma=True), [bench.x(B, S, H), bench.weight(H)],
    )  # fmt: skip


@PRECISIONS
def test_layer_norm(torch_bytes, lab, dtype):
    bench = lab(width(dtype))
    agree(
        torch_bytes, bench, lambda x, w, b: F.layer_norm(x, (H,), w, b),
        [X(B, S, H, dtype=dtype), P(H, dtype=dtype), P(H, dtype=dtype)],
        lambda tape, x, w, b: op.layer_norm(tape, x, w, b, ROWS),
        [bench.x(B, S, H), bench.weight(H), bench.weight(H, name="bias")], slack=4 * 2 * H,
    )  # fmt: skip


ELEMENTWISE = {
    "silu": (F.silu, op.activation),
    "gelu": (lambda x: F.gelu(x, approximate="tanh"), op.activation),
    "gelu_new": (new_gelu, op.gelu_new),
    "scale": (lambda x: x * 0.5, op.scale),
    "softcap": (lambda x: torch.tanh(x / 30) * 30, op.softcap),
    "clone": (torch.clone, op.clone),
    "join": (lambda x: torch.cat([x[..., :8], x[..., 8:]], -1), op.join),
    "dropout": (lambda x: F.dropout(x, 0.1), lambda tape, x: op.dropout(tape, x, 0.1, cpu=True)),
    "softmax": (lambda x: F.softmax(x, -1), lambda tape, x: op.softmax(tape, x, x.itemsize)),
    "view": (lambda x: x.view(ROWS, H), op.view),
    "add of two uses": (lambda x: x * 2 + x * 3, lambda t, x: op.add(t, op.scale(t, x), op.scale(t, x))),
    "swish of two uses": (lambda x: F.silu(x) * x, lambda t, x: op.multiply(t, op.activation(t, x), x)),
}


@PRECISIONS
@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) - {"join"}))
def test_elementwise(torch_bytes, lab, name, dtype):
    """One tensor in, one out of the same size."""
    function, shadow = ELEMENTWISE[name]
    bench = lab(width(dtype))
    agree(torch_bytes, bench, function, [X(B, S, H, dtype=dtype)], shadow, [bench.x(B, S, H)])


def test_dropout_of_nothing_is_nothing(lab):
    bench = lab()
    x = bench.x(B, S, H)
    before = len(bench.tape.events)
    assert op.dropout(bench.tape, x, 0.0) is x and len(bench.tape.events) == before


def test_a_gpu_keeps_a_byte_an_element_for_dropout(lab):
    """aten::native_dropout returns a mask of booleans; on a CPU torch multiplies by noise as wide as x."""
    x, mask = torch.native_dropout(torch.ones(B, S, H), 0.1, True)
    bench = lab()
    found = bench.bytes(lambda tape, x: op.dropout(tape, x, 0.1), bench.x(B, S, H))
    assert found.saved == mask.element_size() * mask.numel()
    assert found.held == found.saved + x.nbytes


@pytest.mark.parametrize("back", [4, 2])
def test_cast(torch_bytes, lab, back):
    bench, target = lab(6 - back), {4: torch.float32, 2: LOW}[back]
    source = {2: torch.float32, 4: LOW}[back]
    agree(
        torch_bytes, bench, lambda x: x.to(target), [X(B, S, H, dtype=source)],
        lambda tape, x: op.cast(tape, x, back), [bench.x(B, S, H)],
    )  # fmt: skip


def test_add_of_two_precisions(torch_bytes, lab):
    """The wider one wins; the gradient of the narrower is cast."""
    bench = lab()
    agree(
        torch_bytes, bench, torch.add, [X(B, S, H, dtype=LOW), X(B, S, H)],
        op.add, [bench.x(B, S, H, itemsize=2), bench.x(B, S, H)], transient=False,
    )  # fmt: skip


def test_softmax_in_fp32_of_16_bits(torch_bytes, lab):
    """On a GPU the cast is inside the kernel; a CPU makes an FP32 copy first, which goes at once."""
    bench = lab(2)
    shadow = bench.bytes(lambda tape, x: op.softmax(tape, x, 4), bench.x(B, S, H))
    measured = torch_bytes(lambda x: F.softmax(x, -1, dtype=torch.float32), X(B, S, H, dtype=LOW))
    assert shadow.near(measured, ("held", "saved", "left"))


@pytest.mark.parametrize("rows", [B, ROWS])
def test_cross_entropy(torch_bytes, lab, rows):
    """The log-probabilities are saved; backward holds two more of their size."""
    bench, labels = lab(), torch.randint(0, 500, (rows,))
    agree(
        torch_bytes, bench, lambda x: F.cross_entropy(x, labels), [X(rows, 500)],
        lambda tape, x: op.cross_entropy(tape, x, rows), [bench.x(rows, 500)],
    )  # fmt: skip


def test_embedding(torch_bytes, lab):
    """The gradient is as large as the table, however few rows were read."""
    bench, ids = lab(), torch.randint(0, 500, (B, S))
    agree(
        torch_bytes, bench, lambda table: F.embedding(ids, table), [P(500, H)],
        lambda tape, table: op.embedding(tape, table, ROWS, H), [bench.weight(500, H)],
    )  # fmt: skip


def test_a_table_that_is_also_the_head(torch_bytes, lab):
    """A tied weight: two gradients, one sum."""
    bench, ids = lab(), torch.randint(0, 500, (B, S))
    agree(
        torch_bytes, bench, lambda table: F.linear(F.embedding(ids, table), table), [P(500, H)],
        lambda tape, table: op.linear(tape, op.embedding(tape, table, ROWS, H), table, 500),
        [bench.weight(500, H)],
    )  # fmt: skip


@PRECISIONS
@pytest.mark.parametrize("wants", [(True, True), (True, False)])
def test_matmul(torch_bytes, lab, dtype, wants):
    bench, n = lab(width(dtype)), B * A
    agree(
        torch_bytes, bench, torch.bmm,
        [X(n, S, 16, dtype=dtype, grad=wants[0]), X(n, 16, S, dtype=dtype, grad=wants[1])],
        lambda tape, a, b: op.matmul(tape, a, b, n * S * S),
        [bench.x(n, S, 16, grad=wants[0]), bench.x(n, 16, S, grad=wants[1])],
        transient=dtype != LOW,
    )  # fmt: skip


@PRECISIONS
def test_repeat_of_keys_and_values(torch_bytes, lab, dtype):
    bench = lab(width(dtype))
    agree(
        torch_bytes, bench, repeated, [X(B, A, S, 16, dtype=dtype)],
        lambda tape, x: op.repeat(tape, x, 4), [bench.x(B, A, S, 16)],
    )  # fmt: skip


@PRECISIONS
def test_rotary(torch_bytes, lab, dtype):
    """Only the tables are saved."""
    bench = lab(width(dtype))
    tables = [X(1, 1, S, 16, dtype=dtype, grad=False) for _ in range(2)]
    shadows = [bench.x(S, 16, grad=False) for _ in range(2)]
    agree(
        torch_bytes, bench, lambda x: turned(x, *tables), [X(B, A, S, 16, dtype=dtype)],
        lambda tape, x: op.rotary(tape, x, *shadows), [bench.x(B, A, S, 16)],
    )  # fmt: skip


@pytest.mark.parametrize("sequence", [64, 256, 512])
def test_scaled_dot_product(torch_bytes, lab, sequence):
    """Held and saved: q, k, v, the result, a number for each row; nothing of size s x s."""
    bench, block = lab(), block_of_scores(sequence)
    shape = (2, sequence, A, 16)
    measured = torch_bytes(
        lambda *qkv: F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in qkv), is_causal=True),
        *(X(*shape) for _ in range(3)),
    )
    shadow = bench.bytes(
        lambda tape, q, k, v: op.scaled_dot_product(tape, q, k, v, 2 * A * sequence, block),
        *(bench.x(*shape) for _ in range(3)),
    )
    assert shadow.near(measured, ("held", "saved", "backward", "left"), slack=256), f"{shadow}\n{measured}"
    assert shadow.saved < 4 * 2 * A * sequence * sequence or sequence < 128


def test_part_and_split(torch_bytes, lab):
    """Slices of a fused projection: a gradient padded with zeros for each; of a split, one put together."""
    bench, n = lab(), ROWS * H
    agree(
        torch_bytes, bench, lambda x: x[..., :H] * 2 + x[..., H:] * 3, [X(B, S, 2 * H)],
        lambda t, x: op.add(t, op.scale(t, op.part(t, x, n)), op.scale(t, op.part(t, x, n))),
        [bench.x(B, S, 2 * H)],
    )  # fmt: skip
    bench = lab()

    def halves(x):
        a, b = x.split(H, -1)
        return a * 2 + b * 3

    def shadow(tape, x):
        a, b = op.split(tape, x, (n, n))
        return op.add(tape, op.scale(tape, a), op.scale(tape, b))

    agree(torch_bytes, bench, halves, [X(B, S, 2 * H)], shadow, [bench.x(B, S, 2 * H)])


@pytest.mark.parametrize("reached", [True, False], ids=["in the middle", "first"])
def test_checkpoint(torch_bytes, lab, reached):
    """Only x and the generator's state are held; backward plays the block again."""
    from torch.utils.checkpoint import checkpoint

    bench = lab()

    def block(x, up, down):
        return F.linear(F.silu(F.linear(x, up)), down)

    up, down = bench.weight(W, H, name="up"), bench.weight(H, W, name="down")

    def shadow_block(tape, x):
        return op.linear(tape, op.activation(tape, op.linear(tape, x, up, W)), down, H)

    tensors = [X(B, S, H, grad=reached), P(W, H), P(H, W)]
    real = torch_bytes(lambda x, *ws: checkpoint(block, x, *ws, use_reentrant=False), *tensors)
    shadow = bench.bytes(
        lambda tape, x: op.checkpoint(tape, shadow_block, x, op.RANDOM_STATE), bench.x(B, S, H, grad=reached)
    )
    assert shadow.near(real, ("held", "backward", "left")), f"{shadow}\n{real}"
    assert (
        real.forward - shadow.forward == op.RANDOM_STATE
    )  # torch reads the state before the block, not after


WRONG = {
    "linear saves x for a frozen weight": (
        lambda x: F.linear(x, P(W, H, grad=False)),
        lambda t, x: t.record("linear", [x], ROWS * W, 4, lambda g: [op.fresh(t, ROWS * H, 4, "dX")], [x]),
    ),
    "silu saves nothing": (F.silu, op.scale),
    "dropout keeps a byte an element on a CPU": (
        ELEMENTWISE["dropout"][0],
        lambda tape, x: op.dropout(tape, x, 0.1),
    ),
    "a fused gelu_new": (new_gelu, op.activation),
    "a softmax that saves its input too": (
        ELEMENTWISE["softmax"][0],
        lambda tape, x: op.softmax(tape, op.activation(tape, x), 4),
    ),
}


@pytest.mark.parametrize("planted", WRONG)
def test_a_wrong_rule_is_caught(torch_bytes, lab, planted):
    function, shadow = WRONG[planted]
    bench = lab()
    assert not bench.bytes(shadow, bench.x(B, S, H)).near(torch_bytes(function, X(B, S, H)))
