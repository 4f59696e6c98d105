"""One forward and backward pass of a causal language model, on shadows: the activations, saved tensor by saved tensor.

The functions below are the forward passes of `transformers`, line by line, with `operations` in the place of torch's.
Run under a `Tape` they give every byte that comes and goes, for LLaMA and its relatives (Mistral, Qwen, Phi-3, Gemma)
and for GPT-2, with LoRA in the projections or without. What they leave out: the numbers.

>>> from coursekit.memory.architecture import architecture_of
>>> rows = saved(Model(architecture_of("llama-3-8b"), batch=1, sequence=2048, numerics=Numerics(weight=2)))
>>> len(rows), sum(nbytes for _, nbytes in rows)
(17, 411320320)

Shapes: tokens m = b s (batch, sequence), h hidden, a heads, d head dimension, i intermediate, V vocabulary. A shadow
knows only its number of elements, so [m, h] in a comment is the shape of torch's tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coursekit.memory import operations as op
from coursekit.memory.architecture import Architecture
from coursekit.memory.tape import Parameter, Shadow, Tape


@dataclass(frozen=True)
class Numerics:
    """Bytes per element."""

    weight: int = 4  # as the model holds it
    autocast: int = 0  # of a product's operands; 0: no autocast
    gradient: int = 0  # as it is kept; 0: like its weight


@dataclass(frozen=True)
class Lora:
    """Adapters beside the linear layers whose names end in one of `targets`. rank 0: none."""

    rank: int = 0
    targets: tuple[str, ...] = ()
    dropout: float = 0.0
    itemsize: int = 4
    quantised: bool = False  # the base is in 4 bits, so each product first dequantises its weight
    whole: int = 2  # bytes per element of the dequantised weight


@dataclass
class Model:
    """A model on shadows: its weights as `Parameter`s, and how it computes."""

    architecture: Architecture
    batch: int
    sequence: int
    numerics: Numerics = Numerics()
    lora: Lora = Lora()
    attention: str = "sdpa"
    checkpointing: bool = False
    padded: bool = False
    trainable: bool = True  # the base's weights
    cpu: bool = False  # its attention kernel takes a small buffer
    input_gradients: bool = False  # as enable_input_require_grads does for k-bit training
    weights: dict[str, Parameter] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.batch * self.sequence

    def weight(self, name: str, numel: int) -> Parameter:
        if name not in self.weights:
            size = self.numerics.weight
            kept = numel * (self.numerics.gradient or size)
            self.weights[name] = Parameter(name, numel, size, self.trainable, kept)
        return self.weights[name]

    def adapter(self, name: str, numel: int) -> Parameter:
        if name not in self.weights:
            size = self.lora.itemsize
            self.weights[name] = Parameter(name, numel, size, True, numel * size)
        return self.weights[name]


def step(tape: Tape, model: Model, layers: range) -> None:
    """Play forward and backward of one micro-batch through the blocks `layers`. The events are on the tape."""
    loss = forward(tape, model, layers)
    tape.end_forward()
    seed = op.fresh(tape, 1, op.FP32, "loss")
    tape.backward(loss, seed)


def saved(model: Model, layer: int = 1) -> list[tuple[str, int]]:
    """What block `layer` holds for backward: (operation that made it, bytes), in order, each storage once. The tables
    of rotary positions, which all blocks share, are left out."""
    tape = Tape()
    loss = forward(tape, model, range(layer + 2))
    rows, seen = [], set()
    for node in tape.nodes:
        for storage in node.saved if node.place == f"layer {layer}" else ():
            if id(storage) not in seen and storage.operation not in ("cos", "sin"):
                rows.append((storage.operation, storage.bytes))
            seen.add(id(storage))
    del loss  # it kept the graph alive
    return rows


def forward(tape: Tape, model: Model, layers: range) -> Shadow:
    """Embedding, blocks, head, loss: tokens [b, s] -> loss []. The logits are freed if nothing saves them."""
    a = model.architecture
    tape.place = "embedding"
    x = embed(tape, model)
    tables = rotary_tables(tape, model, x) if a.rotary else ()
    mask = causal_mask(tape, model, x)
    for layer in layers:
        tape.place = f"layer {layer}"

        def block(tape, x, layer=layer, mask=mask):  # a checkpointed block keeps the mask, to be run again
            return decoder(tape, model, x, layer, tables)

        if model.checkpointing:
            x = op.checkpoint(tape, block, x, op.RANDOM_STATE if model.cpu else 0)
        else:
            x = block(tape, x)
    del block, mask
    tape.place = "head"
    x = norm(tape, model, x, "norm")
    logits = project(tape, model, x, "lm_head", a.vocabulary, weight_name="embed_tokens" if a.tied else None)
    del x
    logits = op.softcap(tape, logits) if a.logit_softcap else logits
    tape.place = "loss"
    return op.cross_entropy(tape, op.cast(tape, logits, op.FP32), model.tokens)


def embed(tape: Tape, model: Model) -> Shadow:  # -> [m, h]
    a = model.architecture
    table = model.weight("embed_tokens", a.vocabulary * a.hidden)
    x = op.embedding(tape, table, model.tokens, a.hidden)
    if a.positions:
        places = model.weight("wpe", a.positions * a.hidden)
        at = op.embedding(tape, places, model.sequence, a.hidden)
        x = op.add(tape, x, at)
    if a.scaled_embedding:
        x = op.scale(tape, x)
    x = op.dropout(tape, x, a.dropout, cpu=model.cpu)
    if model.input_gradients and not x.requires_grad:
        x = tape.require_grad(x)
    return x


def rotary_tables(tape: Tape, model: Model, x: Shadow) -> tuple[Shadow, Shadow]:
    """cos and sin of every position, [s, rotary] each, once for all layers."""
    numel = model.sequence * model.architecture.rotary
    return tape.tensor(numel, x.itemsize, "cos"), tape.tensor(numel, x.itemsize, "sin")


def causal_mask(tape: Tape, model: Model, x: Shadow) -> Shadow | None:
    """What each query may see, [b, s, s], once for all layers: numbers in eager mode, booleans for SDPA, which without
    padding needs no mask: it knows that attention is causal."""
    if model.attention == "eager":
        return tape.tensor(model.tokens * model.sequence, x.itemsize, "mask")
    return tape.tensor(model.tokens * model.sequence, 1, "mask") if model.padded else None


def norm(tape: Tape, model: Model, x: Shadow, name: str, width: int = 0) -> Shadow:  # [m, h] -> [m, h]
    a = model.architecture
    width = width or a.hidden
    weight = model.weight(f"{name}.weight", width)
    rows = x.numel // width
    if a.norm == "layer":
        bias = model.weight(f"{name}.bias", width)
        return op.layer_norm(tape, x, weight, bias, rows, autocast=model.numerics.autocast)
    return op.rms_norm(tape, x, weight, rows, gemma=a.norm == "gemma")


def project(
    tape, model: Model, x: Shadow, name: str, outputs: int, *, bias=False, weight_name=None
) -> Shadow:
    """A linear layer, with its adapter if it has one: [m, inputs] -> [m, outputs]."""
    inputs = x.numel // model.tokens
    short = name.rsplit(".", 1)[-1]
    weight = model.weight(weight_name or name, inputs * outputs)
    biases = model.weight(f"{name}.bias", outputs) if bias else None
    lora = model.lora
    adapted = bool(lora.rank) and short in lora.targets
    if lora.quantised and short != "lm_head":
        y = quantised_linear(tape, model, x, weight, outputs)
        if adapted:
            y = op.clone(tape, y)  # as PEFT does, so that adding to it in place cannot change a view
    else:
        y = op.linear(tape, x, weight, outputs, bias=biases, autocast=model.numerics.autocast)
    return adapt(tape, model, x, y, name, inputs, outputs) if adapted else y


def adapt(tape, model: Model, x: Shadow, y: Shadow, name: str, inputs: int, outputs: int) -> Shadow:
    """PEFT's forward: `y + lora_B(lora_A(dropout(x))) * scaling`, the adapter in its own precision.

    x [m, inputs], y [m, outputs], lora_A [rank, inputs], lora_B [outputs, rank] -> [m, outputs]
    """
    lora, cast_to = model.lora, model.numerics.autocast
    if not cast_to:
        x = op.cast(tape, x, lora.itemsize)
    x = op.dropout(tape, x, lora.dropout, cpu=model.cpu)
    down = model.adapter(f"{name}.lora_A", lora.rank * inputs)
    up = model.adapter(f"{name}.lora_B", outputs * lora.rank)
    low = op.linear(tape, x, down, lora.rank, autocast=cast_to)
    del x
    delta = op.linear(tape, low, up, outputs, autocast=cast_to)
    before = y.itemsize
    delta = op.scale(tape, delta)
    if lora.quantised and not cast_to:
        delta = op.cast(tape, delta, before)
    return op.cast(tape, op.add(tape, y, delta), before)


def quantised_linear(tape, model: Model, x: Shadow, weight: Parameter, outputs: int) -> Shadow:
    """bitsandbytes' Linear4bit: dequantises the weight for the product, in forward and again in backward."""
    whole, before = weight.numel, x.itemsize
    x = op.cast(tape, x, model.numerics.autocast or model.lora.whole)
    inputs, itemsize = x.numel, x.itemsize
    numel = inputs // (whole // outputs) * outputs

    def run(g):
        weight = tape.new(whole * itemsize, "dequantise")
        gradient = op.fresh(tape, inputs, itemsize, "dX")
        del weight  # freed before the gradient is passed on
        return [gradient]

    dequantised = tape.new(whole * itemsize, "dequantise")
    y = tape.record("Linear4bit", [x], numel, itemsize, run)
    del dequantised
    return op.cast(tape, y, before)


def decoder(tape: Tape, model: Model, x: Shadow, layer: int, tables) -> Shadow:
    """A block, [m, h] -> [m, h]: attention and MLP, each after a norm and before a sum."""
    a, name = model.architecture, f"layers.{layer}"
    residual = x
    x = norm(tape, model, x, f"{name}.input_layernorm")
    x = attention(tape, model, x, name, tables)
    if a.norms_per_layer == 4:
        x = norm(tape, model, x, f"{name}.post_attention_norm")
    x = op.add(tape, residual, op.dropout(tape, x, a.dropout, cpu=model.cpu))
    residual = x
    x = norm(tape, model, x, f"{name}.post_attention_layernorm")
    x = mlp(tape, model, x, name)
    if a.norms_per_layer == 4:
        x = norm(tape, model, x, f"{name}.post_feedforward_norm")
    return op.add(tape, residual, op.dropout(tape, x, a.dropout, cpu=model.cpu))


def attention(tape: Tape, model: Model, x: Shadow, name: str, tables) -> Shadow:  # [m, h] -> [m, h]
    a = model.architecture
    q, k, v = queries_keys_values(tape, model, x, name)
    del x
    if a.fused_qkv and tables:
        q, k = op.view(tape, q, copies=True), op.view(tape, k, copies=True)
    if tables:
        q, k = rotate(tape, a, q, k, tables)
    if not model.checkpointing:  # transformers then switches the cache off
        k, v = op.keep(tape, k), op.keep(tape, v)
    y = attend(tape, model, q, k, v)
    del q, k, v
    if a.fused_qkv and tables and model.attention == "sdpa":
        y = op.clone(tape, y)  # it has the layout of q, heads first, and is copied to tokens first
    return project(tape, model, y, f"{name}.{a.names['o']}", a.hidden, bias=a.output_bias)


def rotate(tape, a: Architecture, q: Shadow, k: Shadow, tables) -> tuple[Shadow, Shadow]:
    """Rotary positions of q and k. Phi-3 then joins the rotated and the other dimensions of a head, which is a copy."""
    q, k = op.rotary(tape, q, *tables), op.rotary(tape, k, *tables)
    if a.fused_qkv:
        q, k = op.join(tape, q), op.join(tape, k)
    return q, k


def queries_keys_values(tape, model: Model, x: Shadow, name: str):
    """[m, h] -> q [m, a d], k and v [m, kv_heads d]."""
    a = model.architecture
    width, narrow = a.heads * a.head_dim, a.kv_heads * a.head_dim
    if a.fused_qkv:
        y = project(tape, model, x, f"{name}.{a.names['qkv']}", width + 2 * narrow, bias=a.attention_bias)
        sizes = tuple(model.tokens * w for w in (width, narrow, narrow))
        if a.family == "gpt2":
            return op.split(tape, y, sizes)
        return [op.part(tape, y, size) for size in sizes]  # Phi-3 slices, and pads each gradient by itself
    return [by_head(tape, model, x, name, key, w) for key, w in (("q", width), ("k", narrow), ("v", narrow))]


def by_head(tape, model: Model, x: Shadow, name: str, key: str, width: int) -> Shadow:
    """A projection, viewed head by head. In memory the heads come after the sequence, in the computation before it:
    rotary makes the gradients of q and k in the second order, and they are copied back."""
    a = model.architecture
    y = project(tape, model, x, f"{name}.{a.names[key]}", width, bias=a.attention_bias)
    y = op.view(tape, y, copies=key != "v")
    if a.qk_norm and key != "v":
        y = norm(tape, model, y, f"{name}.{key}_norm", a.head_dim)
    return y


def attend(tape: Tape, model: Model, q: Shadow, k: Shadow, v: Shadow) -> Shadow:
    """Scores, softmax, values: q [m, a d], k and v [m, kv_heads d] -> [m, a d]."""
    a = model.architecture
    if model.numerics.autocast:
        q, k, v = (op.cast(tape, t, model.numerics.autocast) for t in (q, k, v))
    itemsize = q.itemsize
    rows = model.tokens * a.heads
    groups = a.heads // a.kv_heads
    if model.attention == "sdpa":
        block = block_of_scores(model.sequence) if model.cpu else 0
        if not model.padded:
            return op.scaled_dot_product(tape, q, k, v, rows, block)
        # with a mask no kernel shares keys among queries, and each call turns the mask into numbers
        k, v = op.repeat(tape, k, groups), op.repeat(tape, v, groups)
        mask = tape.tensor(model.tokens * model.sequence, itemsize, "mask")
        return op.scaled_dot_product(tape, q, k, v, rows, block, mask)
    if not a.rotary:
        q = op.clone(tape, q)  # a part of the fused projection, which a batched product cannot read in place
    k, v = op.repeat(tape, k, groups), op.repeat(tape, v, groups)
    scores = op.matmul(tape, q, k, rows * model.sequence)
    scores = op.scale(tape, scores)
    scores = op.softcap(tape, scores) if a.attention_softcap else scores
    scores = op.scale(tape, scores)  # + mask: also one more result of that size
    exact = a.family != "gpt2" or model.numerics.autocast  # GPT-2 does not ask for FP32, but autocast does
    weights = op.cast(tape, op.softmax(tape, scores, op.FP32 if exact else itemsize), itemsize)
    del scores
    weights = op.dropout(tape, weights, a.attention_dropout, cpu=model.cpu)
    return op.matmul(tape, weights, v, q.numel)


def block_of_scores(sequence: int) -> int:
    """Queries x keys that torch's CPU kernel holds at a time (one thread)."""
    if sequence >= 768:
        queries = 256
    elif sequence >= 192:
        queries = 64
    else:
        queries = 32
    return min(queries, sequence) * min(512, sequence)


def mlp(tape: Tape, model: Model, x: Shadow, name: str) -> Shadow:  # [m, h] -> [m, h]
    a = model.architecture
    if a.experts and int(name.rsplit(".", 1)[-1]) not in a.dense_layers:
        return experts(tape, model, x, name)
    act = op.gelu_new if a.activation == "gelu_new" else op.activation
    if not a.gated:
        x = act(tape, project(tape, model, x, f"{name}.{a.names['up']}", a.intermediate, bias=a.mlp_bias))
        return project(tape, model, x, f"{name}.{a.names['down']}", a.hidden, bias=a.mlp_bias)
    if a.fused_gate_up:
        both = project(tape, model, x, f"{name}.{a.names['gate_up']}", 2 * a.intermediate)
        gate, up = op.split(tape, both, (both.numel // 2,) * 2)
        x = op.multiply(tape, up, act(tape, gate))
        del both, gate, up
    else:
        gate = project(tape, model, x, f"{name}.{a.names['gate']}", a.intermediate, bias=a.mlp_bias)
        gate = act(tape, gate)
        up = project(tape, model, x, f"{name}.{a.names['up']}", a.intermediate, bias=a.mlp_bias)
        x = op.multiply(tape, gate, up)
        del gate, up
    return project(tape, model, x, f"{name}.{a.names['down']}", a.hidden, bias=a.mlp_bias)


def experts(tape: Tape, model: Model, x: Shadow, name: str) -> Shadow:
    """A mixture, [m, h] -> [m, h]: all experts at once on the tokens that were sent to them (grouped products).

    Each token goes to `experts_per_token` experts, so the MLP has that many times m rows.
    """
    a, cast_to = model.architecture, model.numerics.autocast
    rows = model.tokens * a.experts_per_token
    router = model.weight(f"{name}.mlp.gate", a.experts * a.hidden)
    scores = op.softmax(tape, op.linear(tape, x, router, a.experts, autocast=cast_to), op.FP32)
    chosen = op.part(tape, scores, rows)
    sent = op.gather(tape, x, rows * a.hidden)
    both = _grouped(tape, model, sent, f"{name}.mlp.gate_up_proj", 2 * a.moe_intermediate)
    gate, up = op.split(tape, both, (both.numel // 2,) * 2)
    inner = op.multiply(tape, op.activation(tape, gate), up)
    del both, gate, up, sent
    back = op.multiply(tape, _grouped(tape, model, inner, f"{name}.mlp.down_proj", a.hidden), chosen)
    return op.gather(tape, back, model.tokens * a.hidden)


def _grouped(tape: Tape, model: Model, x: Shadow, name: str, outputs: int) -> Shadow:
    """One product of all experts: [rows, inputs], [experts, outputs, inputs] -> [rows, outputs]."""
    a = model.architecture
    rows = model.tokens * a.experts_per_token
    weight = model.weight(name, a.experts * (x.numel // rows) * outputs)
    return op.grouped_linear(tape, x, weight, rows * outputs, autocast=model.numerics.autocast)
