"""Count the FLOPs of a causal language model from its shapes, and tell what share of the machine's peak they are.

    flops = count_flops(Shape.of(model.config), batch=4, length=256)
    flops.total, flops["attention"].backward

    >>> round(mfu(tokens_per_second=10_000, flops_per_token=six_n_d(7e9, tokens=1), peak_flops=989e12), 3)
    0.425

A product of [m, k] and [k, n] is m n k multiplications and as many additions: 2 m n k FLOPs. Everything else in a
transformer is left out, here as in torch's FlopCounterMode, with which these counts agree to the last digit: norms,
softmax and activations are less than a percent of the work (though not of the time).

In backward a product has two: the gradient of its input and that of its weight. A frozen weight saves the second one,
and the first one as well where nothing below it is trained. Causal attention is counted in full, as the counter does it
and as eager attention computes it; a kernel that skips the upper triangle needs half.

Bare Python. Sources: Kaplan et al. 2020 (arXiv:2001.08361), section 2.1; Hoffmann et al. 2022 (arXiv:2203.15556),
appendix F; Chowdhery et al. 2022, PaLM (arXiv:2204.02311), appendix B (MFU).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Matrix:
    """A weight [outputs, inputs] of a layer; the role says where it stands: qkv, o, up or down."""

    name: str
    role: str
    inputs: int
    outputs: int
    feeds: str = ""  # for the role qkv: which of q, k, v it produces


@dataclass(frozen=True)
class Shape:
    """What the count needs to know about a model. head_dim need not be hidden / heads."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    vocab: int
    matrices: tuple[Matrix, ...]

    @classmethod
    def of(cls, config) -> Shape:
        """From a transformers config: Llama, Mistral, Qwen2 and their like (GQA, SwiGLU), or GPT-2.

        Raises ValueError for another architecture, rather than giving a wrong count.
        """
        if config.model_type not in LAYERS:
            known = ", ".join(sorted(LAYERS))
            raise ValueError(f"no rule to count {config.model_type!r}; the known ones are {known}.")
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        matrices = LAYERS[config.model_type](config, head_dim)
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        return cls(layers, config.hidden_size, heads, head_dim, config.vocab_size, matrices)

    @property
    def product_weights(self) -> int:
        """N: weights that a token is multiplied with. The head is one of them; the embedding is looked up."""
        return self.layers * sum(m.inputs * m.outputs for m in self.matrices) + self.hidden * self.vocab


def llama_layer(config, head_dim: int) -> tuple[Matrix, ...]:
    """q, k, v, o; gate, up, down. k and v are narrower with grouped queries (GQA)."""
    d = config.hidden_size
    wide = config.intermediate_size
    q = config.num_attention_heads * head_dim
    kv = config.num_key_value_heads * head_dim
    return (
        Matrix("q_proj", "qkv", d, q, "q"),
        Matrix("k_proj", "qkv", d, kv, "k"),
        Matrix("v_proj", "qkv", d, kv, "v"),
        Matrix("o_proj", "o", q, d),
        Matrix("gate_proj", "up", d, wide),
        Matrix("up_proj", "up", d, wide),
        Matrix("down_proj", "down", wide, d),
    )


def gpt2_layer(config, head_dim: int) -> tuple[Matrix, ...]:
    """q, k and v in one matrix; two matrices in the MLP. Both output projections are called c_proj."""
    d = config.hidden_size
    wide = config.n_inner or 4 * d
    return (
        Matrix("c_attn", "qkv", d, 3 * d, "qkv"),
        Matrix("c_proj", "o", d, d),
        Matrix("c_fc", "up", d, wide),
        Matrix("c_proj", "down", wide, d),
    )


LAYERS = {"llama": llama_layer, "mistral": llama_layer, "qwen2": llama_layer, "gpt2": gpt2_layer}


@dataclass(frozen=True)
class Part:
    """FLOPs of one part of the model. `recompute`: the forward that checkpointing runs a second time."""

    name: str
    forward: int = 0
    backward: int = 0
    recompute: int = 0

    def __add__(self, other: Part) -> Part:
        sums = (getattr(self, n) + getattr(other, n) for n in ("forward", "backward", "recompute"))
        return Part(self.name, *sums)

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.recompute


@dataclass(frozen=True)
class Flops:
    """FLOPs of a step, part by part and summed: flops["head"].forward, flops.backward, flops.total."""

    parts: tuple[Part, ...]

    def __getitem__(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    @property
    def forward(self) -> int:
        return sum(part.forward for part in self.parts)

    @property
    def backward(self) -> int:
        return sum(part.backward for part in self.parts)

    @property
    def recompute(self) -> int:
        return sum(part.recompute for part in self.parts)

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.recompute


@dataclass(frozen=True)
class Adapters:
    """Adapters of rank `rank` on the matrices with these names; everything else is frozen."""

    rank: int
    targets: frozenset[str]


NAMES = ("projections", "attention", "head", "adapters")


def count_flops(
    shape: Shape,
    batch: int,
    length: int,
    *,
    lora: Adapters | None = None,
    checkpoint: bool = False,
    flash: bool = False,
    input_grads: bool = False,
) -> Flops:
    """FLOPs of one training step: projections, attention, head, adapters; each forward, backward, recomputed.

    lora        None: all weights are trained, the embedding too
    checkpoint  every layer keeps its input only and runs again before its backward. torch stops that second run at
                the last tensor that backward needs, so the layer's last product is not repeated (unless dropout
                follows it, as in GPT-2's own configuration)
    flash       attention by a fused kernel (SDPA): its backward computes the scores once more, 5 products for 4
    input_grads the embedding's output gets a gradient although the embedding is frozen: `enable_input_require_grads`,
                which transformers calls for an adapted model that checkpoints

    Raises ValueError for sizes below 1, a rank below 1, or targets that the model does not have.
    """
    _check(shape, batch, length, lora)
    tokens = batch * length
    wanted = lora is None or input_grads  # the gradient of what comes out of the embedding
    sums = {name: Part(name) for name in NAMES}
    for _ in range(shape.layers):
        parts, wanted = _layer(shape, batch, length, lora, flash, wanted)
        if checkpoint:
            parts += _repeated(shape, parts, tokens, lora)
        for part in parts:
            sums[part.name] += part
    head = 2 * tokens * shape.hidden * shape.vocab  # of every token, though the last one has no target
    sums["head"] += Part("head", head, _backward(head, wanted, trained=lora is None))
    return Flops(tuple(sums.values()))


def _layer(shape: Shape, batch: int, length: int, lora: Adapters | None, flash: bool, wanted: bool):
    """(parts, whether the output's gradient is wanted), given whether the input's is.

    A gradient is wanted where something below is trained. In the first layer above a frozen embedding nothing is.
    """
    parts = []
    for role in ("qkv", "o", "up", "down"):  # one after the other; matrices of one role stand side by side
        of_role = [m for m in shape.matrices if m.role == role]
        for m in of_role:
            parts += _product(m, batch * length, lora, wanted)
        if role == "qkv":
            # Those of q, k, v that need a gradient.
            fed = {x for m in of_role if wanted or _trained(m, lora) for x in m.feeds}
            parts.append(_attention(shape, batch, length, fed, flash))
        wanted = wanted or any(_trained(m, lora) for m in of_role)
    return parts, wanted


def _trained(m: Matrix, lora: Adapters | None) -> bool:
    return lora is None or m.name in lora.targets


def _backward(flops: int, input_wanted: bool, trained: bool) -> int:
    """Backward of a product: as many FLOPs for the gradient of its input, and again for that of its weight."""
    return flops * (input_wanted + trained)


def _product(m: Matrix, tokens: int, lora: Adapters | None, wanted: bool) -> list[Part]:
    """x W^T, and for an adapted matrix also (x A^T) B^T."""
    flops = 2 * tokens * m.inputs * m.outputs
    parts = [Part("projections", flops, _backward(flops, wanted, trained=lora is None))]
    if lora and _trained(m, lora):
        a = 2 * tokens * m.inputs * lora.rank
        b = 2 * tokens * lora.rank * m.outputs
        # The gradient of B's input is always wanted, because A is below it and is trained.
        parts.append(Part("adapters", a + b, _backward(a, wanted, True) + _backward(b, True, True)))
    return parts


def _attention(shape: Shape, batch: int, length: int, fed: set[str], flash: bool) -> Part:
    """Scores q k^T and their product with v, forward; in backward the gradients of the scores and of q, k, v.

    fed  those of q, k, v whose gradient is wanted
    """
    product = 2 * batch * shape.heads * length * length * shape.head_dim
    if flash:
        backward = 5 if fed else 0  # a fused kernel computes all gradients or none
        return Part("attention", 2 * product, backward * product)
    backward = len(fed)
    if fed & {"q", "k"}:  # theirs follow from the gradient of the scores
        backward += 1
    return Part("attention", 2 * product, backward * product)


def _repeated(shape: Shape, parts: Iterable[Part], tokens: int, lora: Adapters | None) -> list[Part]:
    """The forward of a layer once more, without its last product: that of `down`, or of the adapter on it."""
    last = shape.matrices[-1]
    again = [Part(part.name, recompute=part.forward) for part in parts]
    if lora and _trained(last, lora):
        return [*again, Part("adapters", recompute=-2 * tokens * lora.rank * last.outputs)]
    return [*again, Part("projections", recompute=-2 * tokens * last.inputs * last.outputs)]


def _check(shape: Shape, batch: int, length: int, lora: Adapters | None) -> None:
    if batch < 1 or length < 1:
        raise ValueError(f"batch and length must be 1 or more; got {batch} and {length}.")
    if lora is None:
        return
    names = {m.name for m in shape.matrices}
    if lora.rank < 1 or not lora.targets or not lora.targets <= names:
        raise ValueError(
            f"an adapter needs rank 1 or more and targets among {', '.join(sorted(names))}; got rank {lora.rank} "
            f"on {', '.join(sorted(lora.targets)) or 'nothing'}."
        )


def six_n_d(parameters: float, tokens: float) -> float:
    """C = 6 N D: two FLOPs per weight and token forward, four backward; attention is left out.

    N without embeddings in Kaplan et al. 2020 (section 2.1), with all parameters in Hoffmann et al. 2022.
    """
    return 6 * parameters * tokens


def palm_flops_per_token(shape: Shape, length: int) -> int:
    """6 N + 12 L H Q T: the rule with attention that defines MFU. Chowdhery et al. 2022, appendix B."""
    return 6 * shape.product_weights + 12 * shape.layers * shape.heads * shape.head_dim * length


def mfu(tokens_per_second: float, flops_per_token: float, peak_flops: float) -> float:
    """Model FLOPs utilisation: the share of the peak that the model's own work reaches; 0.4 is good on a GPU.

    flops_per_token  forward and backward, without recomputation: that is the machine's work, not the model's
    peak_flops       FLOP/s of the card in the dtype of the products, without sparsity

    Raises ValueError for a number that is not above 0.
    """
    given = {
        "tokens_per_second": tokens_per_second,
        "flops_per_token": flops_per_token,
        "peak_flops": peak_flops,
    }
    for name, value in given.items():
        if not value > 0:  # NaN too
            raise ValueError(f"{name} must be above 0; got {value}.")
    return tokens_per_second * flops_per_token / peak_flops


def flop_counter():
    """torch's FlopCounterMode, made to count attention by the CPU's fused kernel too.

    The counter knows the fused kernels of GPUs only: on a CPU it leaves SDPA's attention out and does not say so. Here
    the CPU's kernel gets the formulas that torch has for the others, backward included (5 products for 4).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    # The counter calls these with the shapes of all the kernel's arguments.
    def forward(q, k, v, *_, **__) -> int:
        return sdpa_flop_count(q, k, v)

    def backward(grad, q, k, v, *_, **__) -> int:
        return sdpa_backward_flop_count(grad, q, k, v)

    aten = torch.ops.aten
    formulas = {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    return FlopCounterMode(display=False, custom_mapping=formulas)
