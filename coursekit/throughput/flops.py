"""FLOPs of a causal language model, counted from its shapes, and what share of the machine's peak they are.

A product of [m, k] and [k, n] is m n k multiplications and as many additions: 2 m n k FLOPs. Everything else in a
transformer is left out, here as in torch's FlopCounterMode, with which these counts agree to the last digit: norms,
softmax and activations are less than a percent of the work (though not of the time).

Backward, a product has two: the gradient of its input and that of its weight. A frozen weight saves the second one, and
the first one as well where nothing below wants it. Causal attention is counted in full, as the counter does it and as
eager attention computes it; a kernel that skips the upper triangle needs half.

    flops = count_flops(Shape.of(model.config), batch=4, length=256)
    mfu(tokens_per_second, flops.total / (4 * 256), peak_flops=989e12)

Bare Python. Sources: Kaplan et al. 2020 (arXiv:2001.08361), section 2.1; Hoffmann et al. 2022 (arXiv:2203.15556),
appendix F; Chowdhery et al. 2022, PaLM (arXiv:2204.02311), appendix B (MFU).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Matrix:
    """A weight of a layer: `inputs` -> `outputs`; the role says where it stands: qkv, o, up or down."""

    name: str
    role: str
    inputs: int
    outputs: int
    feeds: str = ""  # of the role qkv: which of q, k, v come out


@dataclass(frozen=True)
class Shape:
    """What the count needs to know of a model. head_dim need not be hidden / heads."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    vocab: int
    matrices: tuple[Matrix, ...]

    @classmethod
    def of(cls, config) -> Shape:
        """From a transformers config: Llama, Mistral, Qwen2 and their like (GQA, SwiGLU), or GPT-2.

        Raises ValueError for another architecture, rather than a count that is wrong.
        """
        if config.model_type not in LAYERS:
            known = ", ".join(sorted(LAYERS))
            raise ValueError(f"no rule to count {config.model_type!r}; there is one for {known}.")
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads, layers = config.num_attention_heads, config.num_hidden_layers
        matrices = LAYERS[config.model_type](config, head_dim)
        return cls(layers, config.hidden_size, heads, head_dim, config.vocab_size, matrices)

    @property
    def product_weights(self) -> int:
        """N: weights that a token is multiplied with, the head among them, the embedding not: it is looked up."""
        return self.layers * sum(m.inputs * m.outputs for m in self.matrices) + self.hidden * self.vocab


def llama_layer(config, head_dim: int) -> tuple[Matrix, ...]:
    """q, k, v, o; gate, up, down. k and v are narrower with grouped queries (GQA)."""
    d, wide = config.hidden_size, config.intermediate_size
    q, kv = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
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
    """q, k and v in one matrix; two matrices in the MLP. Both output projections bear the name c_proj."""
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
                the last tensor that was asked for, so the layer's last product is not repeated (unless dropout
                follows it, as in GPT-2's own configuration)
    flash       attention by a fused kernel (SDPA): its backward computes the scores once more, 5 products for 4
    input_grads the embedding's output wants a gradient although the embedding is frozen: `enable_input_require_grads`,
                which transformers calls for an adapted model that checkpoints

    Raises ValueError for sizes below 1, a rank below 1, or targets that the model does not have.
    """
    _check(shape, batch, length, lora)
    tokens, wanted = batch * length, lora is None or input_grads
    sums = {name: Part(name) for name in NAMES}
    for _ in range(shape.layers):
        parts, wanted = _layer(shape, batch, length, lora, flash, wanted)
        for part in (*parts, *(_repeated(shape, parts, tokens, lora) if checkpoint else ())):
            sums[part.name] += part
    head = 2 * tokens * shape.hidden * shape.vocab
    sums["head"] += Part("head", head, head * (wanted + (lora is None)))
    return Flops(tuple(sums.values()))


def _layer(shape: Shape, batch: int, length: int, lora: Adapters | None, flash: bool, wanted: bool):
    """(parts, whether the output's gradient is wanted), given whether the input's is.

    A gradient is wanted where something below is trained. In the first layer over a frozen embedding nothing is.
    """
    parts = []
    for role in ("qkv", "o", "up", "down"):
        of_role = [m for m in shape.matrices if m.role == role]
        for m in of_role:
            parts += _product(m, batch * length, lora, wanted)
        if role == "qkv":
            fed = {x for m in of_role if wanted or _trained(m, lora) for x in m.feeds}
            parts.append(_attention(shape, batch, length, fed, flash))
        wanted = wanted or any(_trained(m, lora) for m in of_role)
    return parts, wanted


def _trained(m: Matrix, lora: Adapters | None) -> bool:
    return lora is None or m.name in lora.targets


def _product(m: Matrix, tokens: int, lora: Adapters | None, wanted: bool) -> list[Part]:
    """x W^T, and of an adapted matrix B A x: the gradient of B's input is always wanted, A is below it."""
    flops = 2 * tokens * m.inputs * m.outputs
    parts = [Part("projections", flops, flops * (wanted + (lora is None)))]
    if lora and _trained(m, lora):
        a, b = 2 * tokens * m.inputs * lora.rank, 2 * tokens * lora.rank * m.outputs
        parts.append(Part("adapters", a + b, a * (wanted + 1) + 2 * b))
    return parts


def _attention(shape: Shape, batch: int, length: int, fed: set[str], flash: bool) -> Part:
    """Scores q k^T and their product with v, forward; backward the gradients of q, k, v and of the scores."""
    product = 2 * batch * shape.heads * length * length * shape.head_dim
    if flash:
        return Part(
            "attention", 2 * product, 5 * product * bool(fed)
        )  # a fused kernel computes all or nothing
    wanted = ("q" in fed) + ("k" in fed) + ("v" in fed) + bool(fed & {"q", "k"})
    return Part("attention", 2 * product, wanted * product)


def _repeated(shape: Shape, parts: Iterable[Part], tokens: int, lora: Adapters | None) -> list[Part]:
    """The forward of a layer once more, without its last product: of `down`, or of the adapter on it."""
    last = shape.matrices[-1]
    again = [Part(part.name, recompute=part.forward) for part in parts]
    if lora and _trained(last, lora):
        return [*again, Part("adapters", recompute=-2 * tokens * lora.rank * last.outputs)]
    return [*again, Part("projections", recompute=-2 * tokens * last.inputs * last.outputs)]


def _check(shape: Shape, batch: int, length: int, lora: Adapters | None) -> None:
    if batch < 1 or length < 1:
        raise ValueError(f"batch and length are 1 or more; got {batch} and {length}.")
    if lora is None:
        return
    names = {m.name for m in shape.matrices}
    if lora.rank < 1 or not lora.targets or not lora.targets <= names:
        raise ValueError(
            f"an adapter needs rank 1 or more and targets among {', '.join(sorted(names))}; got rank {lora.rank} "
            f"on {', '.join(sorted(lora.targets)) or 'nothing'}."
        )


def six_n_d(parameters: float, tokens: float) -> float:
    """C = 6 N D: two FLOPs a weight and token forward, four backward; attention left out.

    N without embeddings in Kaplan et al. 2020 (section 2.1), with all parameters in Hoffmann et al. 2022.
    """
    return 6 * parameters * tokens


def palm_flops_per_token(shape: Shape, length: int) -> int:
    """6 N + 12 L H Q T: the rule with attention, by which MFU is defined. Chowdhery et al. 2022, appendix B."""
    return 6 * shape.product_weights + 12 * shape.layers * shape.heads * shape.head_dim * length


def mfu(tokens_per_second: float, flops_per_token: float, peak_flops: float) -> float:
    """Model FLOPs utilisation: the share of the peak that the model's own work reaches; 0.4 is good on a GPU.

    flops_per_token  forward and backward, without recomputing: that is the machine's work, not the model's
    peak_flops       FLOP/s of the card in the dtype of the products, without sparsity

    Raises ValueError for a number that is not above 0.
    """
    for name, value in (
        ("tokens_per_second", tokens_per_second),
        ("flops_per_token", flops_per_token),
        ("peak_flops", peak_flops),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be above 0; got {value}.")
    return tokens_per_second * flops_per_token / peak_flops


def flop_counter():
    """torch's FlopCounterMode, which also counts attention by the CPU's fused kernel.

    The counter knows the fused kernels of GPUs only: on a CPU it leaves SDPA's attention out, without a word. Here the
    CPU's kernel gets the formulas that torch has for the others. Backward included, 5 products for 4.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    aten = torch.ops.aten
    formulas = {  # the counter calls them with the shapes of the kernel's arguments: q, k, v, or grad, q, k, v first
        aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *shapes, **_: (
            sdpa_backward_flop_count(*shapes[:4])
        ),
    }
    return FlopCounterMode(display=False, custom_mapping=formulas)
