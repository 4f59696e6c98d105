"""What each operation of a language model allocates, what it saves for backward, and what backward allocates.

This is the table that the planner stands on, written as code: one function an operation, each the shadow (`tape`) of
what torch does. The rules are those of torch's `derivatives.yaml`: a product saves a factor only if the other one wants
a gradient, a matrix product its input only if the weight is trained; a sum saves nothing; softmax saves its result.

Sizes in elements, `itemsize` in bytes. `tests/memory` hold every one against the events of torch's allocator.
"""

from __future__ import annotations

from coursekit.memory.tape import ACTIVATIONS, Gradient, Node, Parameter, Shadow, Tape

FP32 = 4


def fresh(tape: Tape, numel: int, itemsize: int, operation: str) -> Gradient:
    return Gradient(tape.new(numel * itemsize, operation), itemsize)


def cast(tape: Tape, x: Shadow, itemsize: int) -> Shadow:
    """`x.to(dtype)`: nothing if it has that size already; saves nothing."""
    if x.itemsize == itemsize:
        return x
    before, numel = x.itemsize, x.numel
    return tape.record("to", [x], numel, itemsize, lambda g: [fresh(tape, numel, before, "to")])


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
    whole, itemsize = x.numel, x.itemsize
    return tape.record(
        "slice", [x], numel, itemsize, lambda g: [fresh(tape, whole, itemsize, "slice")], out=x.storage
    )


def split(tape: Tape, x: Shadow, numels: tuple[int, ...]) -> list[Shadow]:
    """x in pieces, no copy. The gradients of the pieces wait for each other and become one."""
    whole, itemsize = x.numel, x.itemsize
    both = tape.record(
        "split", [x], whole, itemsize, lambda g: [fresh(tape, whole, itemsize, "cat")], out=x.storage
    )
    if both.node is not None:
        both.node.waits = []
    return [tape.record("part", [both], n, itemsize, lambda g: [g.viewed()], out=x.storage) for n in numels]


def gather(tape: Tape, x: Shadow, numel: int) -> Shadow:
    """Rows of x picked by an index, or added up at one. Saves the index, which is small beside the rows."""
    whole, itemsize = x.numel, x.itemsize
    return tape.record("gather", [x], numel, itemsize, lambda g: [fresh(tape, whole, itemsize, "gather")])


def clone(tape: Tape, x: Shadow) -> Shadow:
    """A copy; the gradient passes as it is."""
    return tape.record("clone", [x], x.numel, x.itemsize, lambda g: [g])


def embedding(tape: Tape, table: Parameter, tokens: int, width: int) -> Shadow:
    """Rows of a table. Saves the indices, which the batch holds anyway; the gradient is as large as the table."""
    full = table.numel * table.itemsize
    return tape.record(
        "embedding",
        [table],
        tokens * width,
        table.itemsize,
        lambda g: [Gradient(tape.new(full, table.name), table.itemsize)],
    )


def linear(
    tape: Tape,
    x: Shadow,
    weight: Parameter,
    outputs: int,
    *,
    bias: Parameter | None = None,
    autocast: int = 0,
) -> Shadow:
    """`x @ W.T + b`. Saves x for the gradient of W if W is trained, and W, which is there anyway, for that of x.

    autocast   bytes of an element that autocast casts both to, 0 for none; the copy of W lives until the backward of
               this product, one copy for all products of the forward pass
    """
    if autocast:
        weight = cast_weight(tape, weight, autocast)  # first, as C++ evaluates arguments from the right
        x = cast(tape, x, autocast)
    numel, itemsize = x.numel // (weight.numel // outputs) * outputs, x.itemsize
    trained, wanted, inputs = weight.requires_grad, x.requires_grad, x.numel
    size = weight.numel

    def run(g):
        dw = fresh(tape, size, itemsize, "dW").viewed() if trained else None
        dx = fresh(tape, inputs, itemsize, "dX").viewed() if wanted else None
        db = fresh(tape, outputs, itemsize, "db") if bias is not None and bias.requires_grad else None
        return [dx, dw, db]

    saves = [x] if trained else []
    if isinstance(weight, Shadow):
        saves.append(weight)
    return tape.record("linear", [x, weight, bias or nothing], numel, itemsize, run, saves)


def grouped_linear(tape: Tape, x: Shadow, weight: Parameter, numel: int, *, autocast: int = 0) -> Shadow:
    """Rows of x times the matrix of the expert they belong to, all experts at once. Saves what `linear` does."""
    if autocast:
        weight = cast_weight(tape, weight, autocast)
        x = cast(tape, x, autocast)
    trained, wanted, inputs, itemsize, size = (
        weight.requires_grad,
        x.requires_grad,
        x.numel,
        x.itemsize,
        weight.numel,
    )

    def run(g):
        return [
            fresh(tape, inputs, itemsize, "dX") if wanted else None,
            fresh(tape, size, itemsize, "dW") if trained else None,
        ]

    saves = ([x] if trained else []) + ([weight] if isinstance(weight, Shadow) else [])
    return tape.record("grouped_linear", [x, weight], numel, itemsize, run, saves)


nothing = Parameter("none", 0, 0, requires_grad=False)


def cast_weight(tape: Tape, weight: Parameter, itemsize: int) -> Parameter | Shadow:
    """autocast's copy of a weight in 16 bits, made once a forward pass and kept until it is over."""
    if weight.itemsize == itemsize or weight.numel == 0:
        return weight
    if weight.name not in tape.copies:
        numel, before = weight.numel, weight.itemsize
        copy = tape.record("to", [weight], numel, itemsize, lambda g: [fresh(tape, numel, before, "to")])
        tape.copies[weight.name] = tape.place, copy
    return tape.copies[weight.name][1]


def add(tape: Tape, a: Shadow, b: Shadow) -> Shadow:
    """Saves nothing; the gradient goes to both as it is, cast if one is narrower."""
    itemsize, sizes = max(a.itemsize, b.itemsize), (a.itemsize, b.itemsize)
    wants = (a.requires_grad, b.requires_grad)

    def run(g):
        return [
            None
            if not want
            else g
            if size == itemsize
            else fresh(tape, g.storage.bytes // itemsize, size, "to")
            for size, want in zip(sizes, wants, strict=True)
        ]

    return tape.record("add", [a, b], max(a.numel, b.numel), itemsize, run)


def multiply(tape: Tape, a: Shadow | Parameter, b: Shadow) -> Shadow:
    """a * b, b perhaps small and broadcast. Saves each if the other wants a gradient; the gradient of a broadcast
    factor is summed from one of full size."""
    itemsize, numel = max(a.itemsize, b.itemsize), max(a.numel, b.numel)
    values = [(v.numel, v.itemsize, v.requires_grad) for v in (a, b)]

    def run(g):
        full = [fresh(tape, numel, itemsize, "mul") if want else None for _, _, want in values]
        return [
            grad if grad is None or (size, width) == (numel, itemsize) else fresh(tape, size, width, "sum")
            for grad, (size, width, _) in zip(full, values, strict=True)
        ]

    saves = [v for v, other in ((a, b), (b, a)) if other.requires_grad and isinstance(v, Shadow)]
    return tape.record("mul", [a, b], numel, itemsize, run, saves)


def scale(tape: Tape, x: Shadow) -> Shadow:
    """x times a number: new memory, nothing saved."""
    numel, itemsize = x.numel, x.itemsize
    return tape.record("mul", [x], numel, itemsize, lambda g: [fresh(tape, numel, itemsize, "mul")])


def square_mean(tape: Tape, x: Shadow, rows: int) -> Shadow:
    """The root mean square of each row, one over: `rsqrt(x.pow(2).mean(-1))`. Saves x and the result.

    Three results of the size of x live at once in the backward of pow: x, 2x and the gradient."""
    numel, itemsize = x.numel, x.itemsize
    squares = tape.record(
        "pow", [x], numel, itemsize, lambda g: _pow_backward(tape, numel, itemsize), saves=[x]
    )
    mean = tape.record("mean", [squares], rows, itemsize, lambda g: [fresh(tape, numel, itemsize, "div")])
    root = tape.record("rsqrt", [mean], rows, itemsize, lambda g: [fresh(tape, rows, itemsize, "rsqrt")])
    return tape.save_result(root)


def _pow_backward(tape: Tape, numel: int, itemsize: int) -> list[Gradient]:
    power = fresh(tape, numel, itemsize, "pow")
    twice = fresh(tape, numel, itemsize, "mul")
    result = fresh(tape, numel, itemsize, "mul")
    del power, twice
    return [result]


def rms_norm(tape: Tape, x: Shadow, weight: Parameter, rows: int, *, gemma: bool = False) -> Shadow:
    """RMSNorm as transformers writes it: FP32 inside, six lines, five results.

    Saves x in FP32 (the input itself if it is FP32), the root, and x normalised; a fused kernel saves x and the root.
    gemma   (1 + weight) in FP32, and the cast back at the end
    """
    before = x.itemsize
    x = cast(tape, x, FP32)
    normalised = multiply(tape, x, square_mean(tape, x, rows))
    if gemma:
        gain = tape.record(
            "add", [weight], weight.numel, FP32, lambda g: [fresh(tape, weight.numel, weight.itemsize, "to")]
        )
        return cast(tape, multiply(tape, normalised, gain), before)
    return multiply(tape, weight, cast(tape, normalised, before))


def layer_norm(tape: Tape, x: Shadow, weight: Parameter, bias: Parameter, rows: int, *, autocast: int = 0):
    """torch's fused kernel. Saves x, the mean and the root of each row."""
    numel, itemsize = x.numel, x.itemsize
    sizes, want, trained = (weight, bias), x.requires_grad, weight.requires_grad

    def run(g):
        dx = fresh(tape, numel, itemsize, "layer_norm") if want else None
        small = [fresh(tape, p.numel, p.itemsize, "layer_norm") if trained else None for p in sizes]
        return [dx, *small]

    statistics = tape.tensor(2 * rows, FP32 if autocast else itemsize, "layer_norm")
    return tape.record("layer_norm", [x, weight, bias], numel, itemsize, run, saves=[x, statistics])


def activation(tape: Tape, x: Shadow) -> Shadow:
    """silu, gelu: one kernel, saves its input."""
    numel, itemsize = x.numel, x.itemsize
    return tape.record(
        "act", [x], numel, itemsize, lambda g: [fresh(tape, numel, itemsize, "act")], saves=[x]
    )


def gelu_new(tape: Tape, x: Shadow) -> Shadow:
    """GPT-2's `0.5 * x * (1 + tanh(c * (x + 0.044715 * x**3)))` as eight operations in eager mode: five saved results
    instead of one."""
    numel, itemsize = x.numel, x.itemsize
    half = scale(tape, x)  # first, so that its gradient waits until the others have come
    cubes = tape.record(
        "pow", [x], numel, itemsize, lambda g: _pow_backward(tape, numel, itemsize), saves=[x]
    )
    inner = add(tape, x, scale(tape, cubes))
    del cubes
    inner = scale(tape, inner)
    tanh = tape.record("tanh", [inner], numel, itemsize, lambda g: [fresh(tape, numel, itemsize, "tanh")])
    tape.save_result(tanh)
    del inner
    one_plus = tape.record("add", [tanh], numel, itemsize, lambda g: [g])
    return multiply(tape, half, one_plus)


def softcap(tape: Tape, x: Shadow) -> Shadow:
    """Gemma-2's `c * tanh(x / c)`: three results of the size of x, of which tanh's is saved."""
    numel, itemsize = x.numel, x.itemsize
    x = scale(tape, x)
    x = tape.record("tanh", [x], numel, itemsize, lambda g: [fresh(tape, numel, itemsize, "tanh")])
    return scale(tape, tape.save_result(x))


def dropout(tape: Tape, x: Shadow, probability: float, *, cpu: bool = False) -> Shadow:
    """Saves a mask: one byte an element on a GPU, noise as wide as x on a CPU; nothing if the probability is 0."""
    if not probability:
        return x
    numel, itemsize = x.numel, x.itemsize
    mask = tape.tensor(numel, itemsize if cpu else 1, "dropout")
    return tape.record(
        "dropout", [x], numel, itemsize, lambda g: [fresh(tape, numel, itemsize, "dropout")], saves=[mask]
    )


def rotary(tape: Tape, x: Shadow, cos: Shadow, sin: Shadow) -> Shadow:
    """`x * cos + rotate_half(x) * sin`. Saves the two small tables only: they want no gradient."""
    first = multiply(tape, x, cos)
    numel, itemsize = x.numel, x.itemsize
    half = tape.record(
        "neg", [x], numel // 2, itemsize, lambda g: [_rotate_half_backward(tape, numel, itemsize, g)]
    )
    turned = tape.record("cat", [half], numel, itemsize, lambda g: [g.viewed()])
    del half
    second = multiply(tape, turned, sin)
    del turned
    return add(tape, first, second)


def _rotate_half_backward(tape: Tape, numel: int, itemsize: int, g: Gradient) -> Gradient:
    negated = fresh(tape, numel // 2, itemsize, "neg")
    first = fresh(tape, numel, itemsize, "slice")
    del negated
    second = fresh(tape, numel, itemsize, "slice")
    del second
    return first


def join(tape: Tape, x: Shadow) -> Shadow:
    """`torch.cat` of parts into new memory; each gets a view of the gradient."""
    return tape.record("cat", [x], x.numel, x.itemsize, lambda g: [g.viewed()])


def keep(tape: Tape, x: Shadow) -> Shadow:
    """A copy into the key-value cache, which transformers fills in training too unless it is told not to."""
    copy = join(tape, x)
    tape.cache.append((tape.place, copy.storage))
    return copy


def scaled_dot_product(
    tape: Tape, q: Shadow, k: Shadow, v: Shadow, rows: int, block: int = 0, mask: Shadow | None = None
) -> Shadow:
    """torch's fused attention. Saves q, k, v, its result, and the logarithm of the softmax's sum: nothing of size s x
    s.

    rows    batch x heads x sequence
    mask    of padding, saved too
    block   elements of the block of scores that the CPU's kernel works on; a GPU keeps it on the chip
    """
    sizes = [(t.numel, t.itemsize, t.requires_grad) for t in (q, k, v)]

    def run(g):
        made = [fresh(tape, numel, itemsize, "sdpa") for numel, itemsize, _ in sizes]
        tape.new(2 * block * FP32, "sdpa")
        return [grad if want else None for grad, (_, _, want) in zip(made, sizes, strict=True)]

    sums = tape.tensor(rows, FP32, "sdpa")
    result = tape.record(
        "sdpa", [q, k, v], q.numel, q.itemsize, run, saves=[q, k, v, sums, *([mask] if mask else [])]
    )
    return tape.save_result(result)


def repeat(tape: Tape, x: Shadow, times: int) -> Shadow:
    """`repeat_kv`: the keys and values of a group, copied for each of its queries."""
    if times == 1:
        return x
    numel, itemsize = x.numel, x.itemsize
    return tape.record("clone", [x], times * numel, itemsize, lambda g: [fresh(tape, numel, itemsize, "sum")])


def matmul(tape: Tape, a: Shadow, b: Shadow, numel: int) -> Shadow:
    """A batched product of two results. Saves both."""
    sizes = [(t.numel, t.itemsize, t.requires_grad) for t in (a, b)]
    return tape.record(
        "matmul",
        [a, b],
        numel,
        a.itemsize,
        lambda g: [fresh(tape, n, size, "bmm") if want else None for n, size, want in sizes],
        saves=[t for t, other in ((a, b), (b, a)) if other.requires_grad],
    )


def softmax(tape: Tape, x: Shadow, itemsize: int) -> Shadow:
    """In `itemsize` bytes, cast inside the kernel. Saves its result."""
    numel, before = x.numel, x.itemsize
    result = tape.record("softmax", [x], numel, itemsize, lambda g: [fresh(tape, numel, before, "softmax")])
    return tape.save_result(result)


def cross_entropy(tape: Tape, logits: Shadow, rows: int) -> Shadow:
    """log_softmax and nll_loss in FP32. Saves the log-probabilities; backward makes two more of their size."""
    numel = logits.numel
    logs = tape.record(
        "log_softmax", [logits], numel, FP32, lambda g: [fresh(tape, numel, FP32, "log_softmax")]
    )
    tape.save_result(logs)
    return tape.record("nll_loss", [logs], 1, FP32, lambda g: [fresh(tape, numel, FP32, "nll_loss")])


RANDOM_STATE = 5056  # bytes of the CPU's random number generator


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
        start = Node([], [], lambda g: [], tape.place, "input") if source is not None else None
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
    start = Node([], [], lambda g: [], "", "input") if x.requires_grad else None
    block(tape, Shadow(tape.new(0, "input"), x.numel, x.itemsize, start))
    tape.nodes.clear()  # nodes and tape refer to each other, and would hold the rotary tables until collected
    return tape.saves
