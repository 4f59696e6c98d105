"""What each operation of a language model allocates, what it saves for backward, and what backward allocates.

This is the table that the planner stands on, written as code: one function per operation, each the shadow (`tape`) of
what torch does. The rules are those of torch's `derivatives.yaml`: a product saves a factor only if the other one wants
a gradient, a matrix product its input only if the weight is trained; a sum saves nothing; softmax saves its result.

>>> tape = Tape()
>>> x = tape.require_grad(tape.tensor(1000, itemsize=4))
>>> y = activation(tape, x)                              # silu saves its input
>>> [storage.bytes for storage in y.node.saved]
[4000]

`numel` counts elements, `itemsize` the bytes of one. `tests/coursekit/memory` holds each operation against the events
of torch's allocator. The functions that run in backward must not refer to shadows: they would keep them alive.
"""

from __future__ import annotations

from coursekit.memory.tape import ACTIVATIONS, Gradient, Node, Parameter, Shadow, Storage, Tape

FP32 = 4
RANDOM_STATE = 5056  # bytes of the state of the CPU's random number generator


def fresh(tape: Tape, numel: int, itemsize: int, operation: str) -> Gradient:
    """A gradient in new memory."""
    return Gradient(tape.new(numel * itemsize, operation), itemsize)


def pass_on(gradient: Gradient) -> list[Gradient]:
    """The backward of a copy, or of a sum with a constant: the same gradient."""
    return [gradient]


def pass_view(gradient: Gradient) -> list[Gradient]:
    """The backward of a concatenation: a part of the same gradient, which is not copied."""
    return [gradient.viewed()]


def unary(
    tape: Tape,
    operation: str,
    x: Shadow | Parameter,
    numel: int,
    itemsize: int,
    *,
    backward: str = "",
    saves=(),
    out: Storage | None = None,
) -> Shadow:
    """An operation of one input, whose backward allocates the gradient of that input and nothing else.

    numel, itemsize   of the result
    backward          name of the operation that makes the gradient; default: `operation`
    saves, out        as in `Tape.record`
    """
    inputs, width = x.numel, x.itemsize  # numbers only: a closure over x would keep x alive

    def run(g):
        return [fresh(tape, inputs, width, backward or operation)]

    return tape.record(operation, [x], numel, itemsize, run, saves, out)


def cast(tape: Tape, x: Shadow, itemsize: int) -> Shadow:
    """`x.to(dtype)`: nothing if it has that size already; saves nothing."""
    if x.itemsize == itemsize:
        return x
    return unary(tape, "to", x, x.numel, itemsize)


def view(tape: Tape, x: Shadow, *, copies: bool = False) -> Shadow:
    """Another shape of the same memory.

    copies   the gradient comes in another order of axes, so that going back to the shape takes a copy
    """
    numel, itemsize = x.numel, x.itemsize

    def run(g):
        return [fresh(tape, numel, itemsize, "clone").viewed() if copies else g.viewed()]

    return tape.record("view", [x], numel, itemsize, run, out=x.storage)


def part(tape: Tape, x: Shadow, numel: int) -> Shadow:
    """A slice of x, no copy. Its gradient is padded with zeros to the size of x."""
    return unary(tape, "slice", x, numel, x.itemsize, out=x.storage)


def split(tape: Tape, x: Shadow, numels: tuple[int, ...]) -> list[Shadow]:
    """x in pieces, no copy. The gradients of the pieces wait for each other and become one."""
    whole = unary(tape, "split", x, x.numel, x.itemsize, backward="cat", out=x.storage)
    if whole.node is not None:
        whole.node.waits = []
    return [tape.record("part", [whole], n, x.itemsize, pass_view, out=x.storage) for n in numels]


def gather(tape: Tape, x: Shadow, numel: int) -> Shadow:
    """Rows of x picked by an index, or added up at one. Saves the index, which is small beside the rows."""
    return unary(tape, "gather", x, numel, x.itemsize)


def clone(tape: Tape, x: Shadow) -> Shadow:
    """A copy; the gradient is passed on."""
    return tape.record("clone", [x], x.numel, x.itemsize, pass_on)


def join(tape: Tape, x: Shadow) -> Shadow:
    """`torch.cat` of parts into new memory; each gets a view of the gradient."""
    return tape.record("cat", [x], x.numel, x.itemsize, pass_view)


def keep(tape: Tape, x: Shadow) -> Shadow:
    """A copy into the key-value cache, which transformers also fills in training unless it is told not to."""
    copy = join(tape, x)
    tape.cache.append((tape.place, copy.storage))
    return copy


def repeat(tape: Tape, x: Shadow, times: int) -> Shadow:
    """`repeat_kv`: the keys and values of a group, copied for each of its queries."""
    if times == 1:
        return x
    return unary(tape, "clone", x, times * x.numel, x.itemsize, backward="sum")


def embedding(tape: Tape, table: Parameter, tokens: int, width: int) -> Shadow:
    """Rows of a table [V, width]. Saves the indices, which the batch holds anyway; the gradient is as large as the
    table."""
    return unary(tape, "embedding", table, tokens * width, table.itemsize, backward=table.name)


def linear(
    tape: Tape,
    x: Shadow,
    weight: Parameter,
    outputs: int,
    *,
    bias: Parameter | None = None,
    autocast: int = 0,
) -> Shadow:
    """`x @ W.T + b`: [m, inputs], [outputs, inputs], [outputs] -> [m, outputs].

    Saves x for the gradient of W if W is trained. For the gradient of x it saves W, which is in memory anyway.

    autocast   bytes per element to which autocast casts x and W, 0 for none. The copy of W lives until the backward of
               this product; all products of the forward pass share it
    """
    if autocast:
        weight = cast_weight(tape, weight, autocast)  # first, as C++ evaluates arguments from the right
        x = cast(tape, x, autocast)
    itemsize, inputs, size = x.itemsize, x.numel, weight.numel
    numel = inputs // (size // outputs) * outputs
    trained, wanted = weight.requires_grad, x.requires_grad

    def run(g):
        dw = fresh(tape, size, itemsize, "dW").viewed() if trained else None
        dx = fresh(tape, inputs, itemsize, "dX").viewed() if wanted else None
        db = fresh(tape, outputs, itemsize, "db") if bias is not None and bias.requires_grad else None
        return [dx, dw, db]

    saves = [x] if trained else []
    if isinstance(weight, Shadow):  # autocast's copy, which nothing else holds after the forward pass
        saves.append(weight)
    return tape.record("linear", [x, weight, bias or nothing], numel, itemsize, run, saves)


nothing = Parameter("none", 0, 0, requires_grad=False)


def grouped_linear(tape: Tape, x: Shadow, weight: Parameter, numel: int, *, autocast: int = 0) -> Shadow:
    """Rows of x times the matrix of the expert they belong to, all experts at once. Saves what `linear` does."""
    if autocast:
        weight = cast_weight(tape, weight, autocast)
        x = cast(tape, x, autocast)
    itemsize, inputs, size = x.itemsize, x.numel, weight.numel
    trained, wanted = weight.requires_grad, x.requires_grad

    def run(g):
        dx = fresh(tape, inputs, itemsize, "dX") if wanted else None
        dw = fresh(tape, size, itemsize, "dW") if trained else None
        return [dx, dw]

    saves = [x] if trained else []
    if isinstance(weight, Shadow):
        saves.append(weight)
    return tape.record("grouped_linear", [x, weight], numel, itemsize, run, saves)


def cast_weight(tape: Tape, weight: Parameter, itemsize: int) -> Parameter | Shadow:
    """autocast's copy of a weight in 16 bits, made once per forward pass and kept until its end."""
    if weight.itemsize == itemsize or weight.numel == 0:
        return weight
    if weight.name not in tape.copies:
        copy = unary(tape, "to", weight, weight.numel, itemsize)
        tape.copies[weight.name] = tape.place, copy
    return tape.copies[weight.name][1]


def add(tape: Tape, a: Shadow, b: Shadow) -> Shadow:
    """a + b, b perhaps broadcast. Saves nothing; the gradient is passed on to both, cast for one that is narrower."""
    itemsize = max(a.itemsize, b.itemsize)
    inputs = [(value.itemsize, value.requires_grad) for value in (a, b)]

    def run(g):
        return [_narrowed(tape, g, itemsize, size) if wanted else None for size, wanted in inputs]

    return tape.record("add", [a, b], max(a.numel, b.numel), itemsize, run)


def _narrowed(tape: Tape, gradient: Gradient, itemsize: int, narrow: int) -> Gradient:
    if narrow == itemsize:
        return gradient
    return fresh(tape, gradient.storage.bytes // itemsize, narrow, "to")


def multiply(tape: Tape, a: Shadow | Parameter, b: Shadow) -> Shadow:
    """a * b, b perhaps small and broadcast. Saves each if the other wants a gradient; the gradient of a broadcast
    factor is summed from one of full size."""
    itemsize, numel = max(a.itemsize, b.itemsize), max(a.numel, b.numel)
    values = [(v.numel, v.itemsize, v.requires_grad) for v in (a, b)]

    def run(g):
        full = [fresh(tape, numel, itemsize, "mul") if wanted else None for _, _, wanted in values]
        gradients = list(full)  # the full ones stay until the sums are there
        for place, (size, width, wanted) in enumerate(values):
            if wanted and (size, width) != (numel, itemsize):
                gradients[place] = fresh(tape, size, width, "sum")
        return gradients

    saves = [v for v, other in ((a, b), (b, a)) if other.requires_grad and isinstance(v, Shadow)]
    return tape.record("mul", [a, b], numel, itemsize, run, saves)


def scale(tape: Tape, x: Shadow) -> Shadow:
    """x times a number: new memory, nothing saved."""
    return unary(tape, "mul", x, x.numel, x.itemsize)


def power(tape: Tape, x: Shadow) -> Shadow:
    """`x.pow(n)`. Saves x. Three results of its size live at once in backward: x^(n-1), n x^(n-1) and the gradient."""
    numel, itemsize = x.numel, x.itemsize

    def run(g):
        lower = fresh(tape, numel, itemsize, "pow")
        scaled = fresh(tape, numel, itemsize, "mul")
        result = fresh(tape, numel, itemsize, "mul")
        del lower, scaled
        return [result]

    return tape.record("pow", [x], numel, itemsize, run, saves=[x])


def tanh(tape: Tape, x: Shadow) -> Shadow:
    """Saves its result."""
    return tape.save_result(unary(tape, "tanh", x, x.numel, x.itemsize))


def activation(tape: Tape, x: Shadow) -> Shadow:
    """silu, gelu: one kernel, saves its input."""
    return unary(tape, "act", x, x.numel, x.itemsize, saves=[x])


def gelu_new(tape: Tape, x: Shadow) -> Shadow:
    """GPT-2's `0.5 * x * (1 + tanh(c * (x + 0.044715 * x**3)))` as eight operations in eager mode: five saved results
    instead of one."""
    half = scale(tape, x)  # first, so that its gradient waits until the others have come
    cubes = power(tape, x)
    inner = add(tape, x, scale(tape, cubes))
    del cubes
    inner = scale(tape, inner)
    curve = tanh(tape, inner)
    del inner
    one_plus = tape.record("add", [curve], x.numel, x.itemsize, pass_on)
    return multiply(tape, half, one_plus)


def softcap(tape: Tape, x: Shadow) -> Shadow:
    """Gemma-2's `c * tanh(x / c)`: three results of the size of x, of which tanh's is saved."""
    x = scale(tape, x)
    x = tanh(tape, x)
    return scale(tape, x)


def dropout(tape: Tape, x: Shadow, probability: float, *, cpu: bool = False) -> Shadow:
    """Saves a mask: one byte per element on a GPU, noise as wide as x on a CPU; nothing if the probability is 0."""
    if not probability:
        return x
    mask = tape.tensor(x.numel, x.itemsize if cpu else 1, "dropout")
    return unary(tape, "dropout", x, x.numel, x.itemsize, saves=[mask])


def square_mean(tape: Tape, x: Shadow, rows: int) -> Shadow:
    """One over the root mean square of each row: `rsqrt(x.pow(2).mean(-1))`. Saves x and the result."""
    squares = power(tape, x)
    mean = unary(tape, "mean", squares, rows, x.itemsize, backward="div")
    return tape.save_result(unary(tape, "rsqrt", mean, rows, x.itemsize))


def rms_norm(tape: Tape, x: Shadow, weight: Parameter, rows: int, *, gemma: bool = False) -> Shadow:
    """RMSNorm as transformers writes it: FP32 inside, six lines, five results.

    Saves x in FP32 (the input itself if it is FP32), the root, and x normalised; a fused kernel saves x and the root.
    gemma   (1 + weight) in FP32, and the cast back at the end
    """
    before = x.itemsize
    x = cast(tape, x, FP32)
    normalised = multiply(tape, x, square_mean(tape, x, rows))
    if gemma:
        gain = unary(tape, "add", weight, weight.numel, FP32, backward="to")
        return cast(tape, multiply(tape, normalised, gain), before)
    return multiply(tape, weight, cast(tape, normalised, before))


def layer_norm(tape: Tape, x: Shadow, weight: Parameter, bias: Parameter, rows: int, *, autocast: int = 0):
    """torch's fused kernel. Saves x, the mean and the root of each row."""
    numel, itemsize = x.numel, x.itemsize
    wanted, trained = x.requires_grad, weight.requires_grad

    def run(g):
        dx = fresh(tape, numel, itemsize, "layer_norm") if wanted else None
        small = [fresh(tape, p.numel, p.itemsize, "layer_norm") if trained else None for p in (weight, bias)]
        return [dx, *small]

    statistics = tape.tensor(2 * rows, FP32 if autocast else itemsize, "layer_norm")
    return tape.record("layer_norm", [x, weight, bias], numel, itemsize, run, saves=[x, statistics])


def rotary(tape: Tape, x: Shadow, cos: Shadow, sin: Shadow) -> Shadow:
    """`x * cos + rotate_half(x) * sin`. Saves the two small tables only: they want no gradient."""
    first = multiply(tape, x, cos)
    second = multiply(tape, rotate_half(tape, x), sin)
    return add(tape, first, second)


def rotate_half(tape: Tape, x: Shadow) -> Shadow:
    """The second half of each head negated, then the first: a copy in two steps."""
    numel, itemsize = x.numel, x.itemsize

    def run(g):  # the gradient of each half is padded to the whole, and the two are added
        negated = fresh(tape, numel // 2, itemsize, "neg")
        first = fresh(tape, numel, itemsize, "slice")
        del negated
        second = fresh(tape, numel, itemsize, "slice")
        del second
        return [first]

    half = tape.record("neg", [x], numel // 2, itemsize, run)
    return tape.record("cat", [half], numel, itemsize, pass_view)


def scaled_dot_product(
    tape: Tape, q: Shadow, k: Shadow, v: Shadow, rows: int, block: int = 0, mask: Shadow | None = None
) -> Shadow:
    """torch's fused attention. Saves q, k, v, its result and the logarithm of the softmax's sum; nothing of size s x s.

    rows    batch x heads x sequence
    mask    of padding, saved too
    block   elements of the block of scores that the CPU's kernel works on; a GPU keeps it on the chip
    """
    sizes = [(t.numel, t.itemsize, t.requires_grad) for t in (q, k, v)]

    def run(g):
        made = [fresh(tape, numel, itemsize, "sdpa") for numel, itemsize, _ in sizes]
        tape.new(2 * block * FP32, "sdpa")  # the kernel's own, freed at once
        return [grad if wanted else None for grad, (_, _, wanted) in zip(made, sizes, strict=True)]

    sums = tape.tensor(rows, FP32, "sdpa")
    saves = [q, k, v, sums]
    if mask:
        saves.append(mask)
    return tape.save_result(tape.record("sdpa", [q, k, v], q.numel, q.itemsize, run, saves))


def matmul(tape: Tape, a: Shadow, b: Shadow, numel: int) -> Shadow:
    """A batched product of two results. Saves each if the other wants a gradient."""
    sizes = [(t.numel, t.itemsize, t.requires_grad) for t in (a, b)]

    def run(g):
        return [fresh(tape, size, width, "bmm") if wanted else None for size, width, wanted in sizes]

    saves = [t for t, other in ((a, b), (b, a)) if other.requires_grad]
    return tape.record("matmul", [a, b], numel, a.itemsize, run, saves)


def softmax(tape: Tape, x: Shadow, itemsize: int) -> Shadow:
    """In `itemsize` bytes, cast inside the kernel. Saves its result."""
    return tape.save_result(unary(tape, "softmax", x, x.numel, itemsize))


def cross_entropy(tape: Tape, logits: Shadow, rows: int) -> Shadow:
    """log_softmax and nll_loss in FP32. Saves the log-probabilities; backward makes two more of their size."""
    logs = tape.save_result(unary(tape, "log_softmax", logits, logits.numel, FP32))
    return unary(tape, "nll_loss", logs, 1, FP32)


def checkpoint(tape: Tape, block, x: Shadow, random_state: int = 0) -> Shadow:
    """Run `block(tape, x)` and save nothing but x; in backward run it again, this time saving, and go back through it.

    random_state   bytes of the generator's state, which each block keeps so that dropout falls on the same elements

    Recomputing stops as soon as the last saved tensor is there, so the last product of the block is not repeated
    (torch.utils.checkpoint with use_reentrant=False does the same).
    """
    saves, wanted = count_saves(block, x), tape.grad
    tape.grad = False
    result = block(tape, Shadow(x.storage, x.numel, x.itemsize))
    tape.grad = wanted
    if not wanted:
        return result
    x.storage.become(ACTIVATIONS)
    state = tape.tensor(random_state, 1, "random state")
    held, source = [x.storage, state.storage], x.node
    numel, itemsize = x.numel, x.itemsize
    del x

    def run(g):
        below = len(tape.nodes)
        start = leaf(tape.place) if source is not None else None
        tape.stop_after, tape.copies = tape.saves + saves, {}
        again = block(tape, Shadow(held[0], numel, itemsize, start))
        tape.stop_after, tape.copies = None, {}
        tape.backward(again, g, down_to=below)
        held.clear()  # only now: every tensor that the block saved refers to what it can be recomputed from
        return [start.gradient if start else None]

    del state
    node = Node([source], [], run, tape.place, "checkpoint")
    tape.nodes.append(node)
    return Shadow(result.storage, result.numel, result.itemsize, node)


def count_saves(block, x: Shadow) -> int:
    """How many tensors the block saves: found on a tape of its own."""
    tape = Tape()
    start = leaf("") if x.requires_grad else None
    block(tape, Shadow(tape.new(0, "input"), x.numel, x.itemsize, start))
    tape.nodes.clear()  # nodes and tape refer to each other, and would hold the rotary tables until collected
    return tape.saves


def leaf(place: str) -> Node:
    """A node without inputs: gradients stop there."""
    return Node([], [], _stop, place, "input")


def _stop(gradient: Gradient) -> list:
    return []
