"""What a model is made of, read from its config: every weight with its name and shape, and so the number of parameters.

>>> architecture = architecture_of("llama-3-8b")  # or a config.json, or AutoConfig.from_pretrained(...)
>>> parameter_count(architecture)
8030261248

Exact to the unit, without weights and without torch. Everything that makes counts differ from the textbook's 12 L h^2
is here: grouped-query attention (fewer heads for keys and values), SwiGLU (three matrices instead of two), heads tied
to the embedding, biases (Qwen-2 has them on q, k, v only, and its config does not say so), projections fused into one
(Phi-3, GPT-2), norms of queries and keys (Qwen-3), four norms per layer (Gemma-2), mixtures of experts.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from math import prod
from pathlib import Path
from typing import NamedTuple

from coursekit.memory.config import MOST_LAYERS, Fields, UnknownModel, read_config, shown

PRESETS = Path(__file__).parent / "architectures"
TINY = PRESETS / "tiny" / "config.json"  # a copy of the embedded model's config; a test compares them

LLAMA_NAMES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "qkv": "self_attn.qkv_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    "gate_up": "mlp.gate_up_proj",
}  # fmt: skip
GPT2_NAMES = {"qkv": "attn.c_attn", "o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}


class Weight(NamedTuple):
    """A parameter of the model: its name as in `transformers`, and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Architecture:
    """The shape of a decoder-only language model; letters as in the papers in brackets.

    norms_per_layer  2, or 4 where the branches are normed at both ends (Gemma-2)
    rotary           dimensions of a head that are rotated; 0: positions are learned
    positions        rows of the learned position table; 0: rotary
    norm             "rms", "gemma" (RMSNorm in FP32 with 1 + weight) or "layer"
    experts          of each MLP; 0: dense. `dense_layers` have an ordinary MLP nevertheless
    """

    family: str
    hidden: int  # h
    layers: int  # L
    heads: int  # a
    kv_heads: int
    head_dim: int
    intermediate: int  # i
    vocabulary: int  # V
    tied: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    gated: bool = True
    norm: str = "rms"
    norms_per_layer: int = 2
    qk_norm: bool = False
    rotary: int = 0
    positions: int = 0
    fused_qkv: bool = False
    fused_gate_up: bool = False
    activation: str = "silu"
    scaled_embedding: bool = False
    attention_softcap: bool = False
    logit_softcap: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    experts: int = 0
    experts_per_token: int = 0
    moe_intermediate: int = 0
    dense_layers: tuple[int, ...] = ()

    @property
    def names(self) -> Mapping[str, str]:
        return GPT2_NAMES if self.family == "gpt2" else LLAMA_NAMES


class Blocks(NamedTuple):
    """Blocks of the same shapes: the index of the first, and their number."""

    first: int
    number: int


@cache
def runs(architecture: Architecture) -> tuple[Blocks, ...]:
    """Runs of equal blocks, in order; one run for a dense model."""
    a = architecture
    dense = set(a.dense_layers) if a.experts else set()
    if not dense:
        return (Blocks(0, a.layers),)
    found = []
    for _, alike in groupby(range(a.layers), dense.__contains__):
        indices = list(alike)
        found.append(Blocks(indices[0], len(indices)))
    return tuple(found)


@cache
def kinds(architecture: Architecture) -> tuple[Blocks, ...]:
    """The kinds of block, wherever they stand: one, or two if a mixture has ordinary MLPs in some blocks."""
    in_order = runs(architecture)  # the two kinds alternate
    found = (in_order[0::2], in_order[1::2])
    return tuple(Blocks(alike[0].first, sum(run.number for run in alike)) for alike in found if alike)


@cache
def pattern(architecture: Architecture) -> tuple[Blocks, ...]:
    """Runs of a short model with the same pairs of neighbouring weights: at most five runs of one or two blocks."""
    in_order = runs(architecture)
    longest = [max((run.number for run in in_order[kind::2]), default=0) for kind in (0, 1)]
    few = in_order[: 4 + len(in_order) % 2]  # an odd number stays odd, so the last run keeps its kind
    return tuple(Blocks(run.first, min(2, longest[place % 2])) for place, run in enumerate(few))


@cache
def parameter_count(architecture: Architecture) -> int:
    """Number of parameters; a tied head is counted once, as it is stored once."""
    return sum(number * prod(shape) for shape, number in shapes(architecture).items())


@cache
def shapes(architecture: Architecture) -> Mapping[tuple[int, ...], int]:
    """shape -> how many weights have it. One block of a kind stands for all, so depth costs nothing."""
    a = architecture
    found = Counter(weight.shape for weight in (*before_blocks(a), *after_blocks(a)))
    for first, number in kinds(a):
        for weight in layer_weights(a, first):
            found[weight.shape] += number
    return found


def active(architecture: Architecture) -> int:
    """Parameters that one token uses: all of a dense model, of a mixture only the experts it is routed to."""
    a = architecture
    if not a.experts:
        return parameter_count(a)
    expert = 3 * a.hidden * a.moe_intermediate  # gate, up and down
    idle = (a.experts - a.experts_per_token) * expert
    return parameter_count(a) - idle * (a.layers - len(a.dense_layers))


def weights(architecture: Architecture) -> Iterator[Weight]:
    """Every parameter in the order of `model.named_parameters()`."""
    a = architecture
    prefix = "transformer.h" if a.family == "gpt2" else "model.layers"
    yield from before_blocks(a)
    for index in range(a.layers):
        for weight in layer_weights(a, index):
            yield Weight(f"{prefix}.{index}.{weight.name}", weight.shape)
    yield from after_blocks(a)


def before_blocks(architecture: Architecture) -> Iterator[Weight]:
    """The embedding, and GPT-2's table of positions."""
    a = architecture
    name = "transformer.wte" if a.family == "gpt2" else "model.embed_tokens"
    yield Weight(f"{name}.weight", (a.vocabulary, a.hidden))
    if a.positions:  # learned; rotary positions have no weights
        yield Weight("transformer.wpe.weight", (a.positions, a.hidden))


def after_blocks(architecture: Architecture) -> Iterator[Weight]:
    """The last norm, and the head unless it is tied to the embedding."""
    a = architecture
    yield from _norm(a, "transformer.ln_f" if a.family == "gpt2" else "model.norm", a.hidden)
    if not a.tied:  # a tied head is the embedding, which has been yielded
        yield Weight("lm_head.weight", (a.vocabulary, a.hidden))


def layer_weights(architecture: Architecture, index: int = 0) -> Iterator[Weight]:
    """The parameters of block `index`; names start below the block."""
    a = architecture
    if a.family == "gpt2":  # its class declares the norms before what they feed
        yield from _norm(a, "ln_1", a.hidden)
        yield from _attention(a)
        yield from _norm(a, "ln_2", a.hidden)
        yield from _mlp(a, index)
        return
    yield from _attention(a)
    yield from _mlp(a, index)
    names = ["input_layernorm", "post_attention_layernorm"]
    if a.norms_per_layer == 4:
        names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for name in names:
        yield from _norm(a, name, a.hidden)


@cache
def linear_layers(architecture: Architecture, index: int = 0) -> list[Weight]:
    """The matrices of a block that are quantised or adapted: all linear layers, shape (outputs, inputs)."""
    a = architecture
    names = tuple(name.rsplit(".", 1)[-1] for name in a.names.values())
    matrices = [w for w in layer_weights(a, index) if w.name.removesuffix(".weight").endswith(names)]
    matrices = [w for w in matrices if w.name.endswith(".weight") and len(w.shape) == 2]
    if a.family == "gpt2":  # its Conv1D stores the transpose
        return [Weight(w.name, w.shape[::-1]) for w in matrices]
    return matrices


def _norm(a: Architecture, name: str, width: int) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (width,))
    if a.norm == "layer":
        yield Weight(f"{name}.bias", (width,))


def _linear(a: Architecture, name: str, outputs: int, inputs: int, bias: bool) -> Iterator[Weight]:
    # GPT-2's Conv1D stores the transpose.
    shape = (inputs, outputs) if a.family == "gpt2" else (outputs, inputs)
    yield Weight(f"{name}.weight", shape)
    if bias:
        yield Weight(f"{name}.bias", (outputs,))


def _attention(a: Architecture) -> Iterator[Weight]:
    wide, narrow = a.heads * a.head_dim, a.kv_heads * a.head_dim
    output = _linear(a, a.names["o"], a.hidden, wide, a.output_bias)
    if a.fused_qkv:
        fused = _linear(a, a.names["qkv"], wide + 2 * narrow, a.hidden, a.attention_bias)
        if a.family == "phi3":  # its class declares the output projection first
            yield from (*output, *fused)
        else:
            yield from (*fused, *output)
        return
    for key, width in (("q", wide), ("k", narrow), ("v", narrow)):
        yield from _linear(a, a.names[key], width, a.hidden, a.attention_bias)
    yield from output
    if a.qk_norm:  # per head, so as wide as a head
        yield Weight("self_attn.q_norm.weight", (a.head_dim,))
        yield Weight("self_attn.k_norm.weight", (a.head_dim,))


def _mlp(a: Architecture, index: int) -> Iterator[Weight]:
    if a.experts and index not in a.dense_layers:
        router = Weight("mlp.gate.weight", (a.experts, a.hidden))
        up = Weight("mlp.experts.gate_up_proj", (a.experts, 2 * a.moe_intermediate, a.hidden))
        down = Weight("mlp.experts.down_proj", (a.experts, a.hidden, a.moe_intermediate))
        if a.family == "mixtral":
            yield from (router, up, down)
        else:  # Qwen-3 declares its router after the experts
            yield from (up, down, router)
        return
    if a.gated:
        parts = ["gate_up"] if a.fused_gate_up else ["gate", "up"]
        width = 2 * a.intermediate // len(parts)
        for part in parts:
            yield from _linear(a, a.names[part], width, a.hidden, a.mlp_bias)
    else:
        yield from _linear(a, a.names["up"], a.intermediate, a.hidden, a.mlp_bias)
    yield from _linear(a, a.names["down"], a.hidden, a.intermediate, a.mlp_bias)


def from_config(config) -> Architecture:
    """The architecture that a `transformers` config describes.

    config   a config object, or the dictionary of a config.json

    Raises UnknownModel for a family that the planner does not know, and for a field that is missing or impossible.
    """
    # a class has to_dict as well, but needs an instance to call it
    if not isinstance(config, (Mapping, type)) and callable(getattr(config, "to_dict", None)):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise UnknownModel(
            f"a model must be a preset, a config.json, its folder, a config or an Architecture; got {shown(config)}."
        )
    fields = Fields(config)
    if not isinstance(fields.family, str) or fields.family not in FAMILIES:
        raise UnknownModel(
            f"model_type={shown(fields.family)} is not a family that the planner knows ("
            f"{', '.join(sorted(FAMILIES))}). If the model is built like one of these, set model_type to that."
        )
    return consistent(Architecture(**FAMILIES[fields.family](fields)))


def _llama(fields: Fields, **more) -> dict:
    heads, hidden = fields.whole("num_attention_heads"), fields.whole("hidden_size")
    head_dim = fields.whole("head_dim", width_of_head(hidden, heads, fields))
    bias = fields.flag("attention_bias", False)
    values = {
        "family": fields.family,
        "hidden": hidden,
        "layers": fields.whole("num_hidden_layers", at_most=MOST_LAYERS),
        "heads": heads,
        "kv_heads": fields.whole("num_key_value_heads", heads),  # fewer with grouped-query attention
        "head_dim": head_dim,
        "intermediate": fields.whole("intermediate_size"),
        "vocabulary": fields.whole("vocab_size"),
        "tied": fields.flag("tie_word_embeddings", False),
        "attention_bias": bias,
        "output_bias": bias,
        "mlp_bias": fields.flag("mlp_bias", False),
        "rotary": head_dim,  # the whole head; Phi-3 may rotate a part of it
        "activation": fields.text("hidden_act", "silu"),
        "attention_dropout": fields.share("attention_dropout", 0.0),
    }
    return values | more


def width_of_head(hidden: int, heads: int, fields: Fields) -> int | None:
    """The dimension of a head if the config does not say it: the hidden size divided by the heads.

    Raises UnknownModel if there is a remainder.
    """
    if fields.config.get("head_dim") is None and hidden % heads:
        raise UnknownModel(
            f"the hidden size {hidden:,} cannot be divided among {heads:,} heads: it must be a multiple of that, or "
            "the config must say head_dim."
        )
    return hidden // heads


def _qwen2(fields: Fields) -> dict:
    return _llama(fields, attention_bias=True, output_bias=False)  # in its class, not in its config


def _qwen3(fields: Fields) -> dict:
    return _llama(fields, qk_norm=True)


def _phi3(fields: Fields) -> dict:
    values = _llama(fields, fused_qkv=True, fused_gate_up=True, dropout=fields.share("resid_pdrop", 0.0))
    return values | {"rotary": int(values["head_dim"] * fields.share("partial_rotary_factor", 1.0))}


def _gemma(fields: Fields) -> dict:
    activation = fields.text(fields.first_of("hidden_activation", "hidden_act"), "gelu_pytorch_tanh")
    tied = fields.flag("tie_word_embeddings", True)  # the default of its class
    values = _llama(fields, norm="gemma", scaled_embedding=True, activation=activation, tied=tied)
    if fields.family == "gemma":
        return values
    caps = {  # Gemma-2 only
        "attention_softcap": fields.cap("attn_logit_softcapping"),
        "logit_softcap": fields.cap("final_logit_softcapping"),
    }
    return values | {"norms_per_layer": 4} | caps


def _mixtral(fields: Fields) -> dict:
    return _llama(
        fields,
        experts=fields.whole(fields.first_of("num_local_experts", "num_experts")),
        experts_per_token=fields.whole("num_experts_per_tok"),
        moe_intermediate=fields.whole("intermediate_size"),  # all its blocks are mixtures
    )


def _qwen3_moe(fields: Fields) -> dict:
    layers = fields.whole("num_hidden_layers", at_most=MOST_LAYERS)
    step = fields.whole("decoder_sparse_step", 1)
    # as in its class: every `step`th block has experts, unless it is listed
    dense = fields.layers_among("mlp_only_layers", layers) | {i for i in range(layers) if (i + 1) % step}
    return _llama(
        fields,
        qk_norm=True,
        experts=fields.whole(fields.first_of("num_local_experts", "num_experts")),
        experts_per_token=fields.whole("num_experts_per_tok"),
        moe_intermediate=fields.whole("moe_intermediate_size"),
        dense_layers=tuple(sorted(dense)),
    )


def _gpt2(fields: Fields) -> dict:
    hidden, heads = fields.whole("n_embd"), fields.whole("n_head")
    return {
        "family": "gpt2",
        "hidden": hidden,
        "layers": fields.whole("n_layer", at_most=MOST_LAYERS),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": width_of_head(hidden, heads, fields),
        "intermediate": fields.whole("n_inner", 4 * hidden),  # null in the published configs
        "vocabulary": fields.whole("vocab_size"),
        "tied": fields.flag("tie_word_embeddings", True),
        "attention_bias": True,  # all biases belong to the class: no field says so
        "output_bias": True,
        "mlp_bias": True,
        "gated": False,
        "norm": "layer",
        "positions": fields.whole("n_positions"),
        "fused_qkv": True,
        "activation": fields.text("activation_function", "gelu_new"),
        "dropout": fields.share("resid_pdrop", 0.1),
        "attention_dropout": fields.share("attn_pdrop", 0.1),
    }


FAMILIES = {
    "llama": _llama,
    "mistral": _llama,
    "smollm3": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "phi3": _phi3,
    "gemma": _gemma,
    "gemma2": _gemma,
    "mixtral": _mixtral,
    "gpt2": _gpt2,
}


def consistent(architecture: Architecture) -> Architecture:
    """Return the architecture; raise UnknownModel if its numbers contradict each other."""
    a = architecture
    if a.heads % a.kv_heads:
        raise UnknownModel(
            f"{a.heads} heads cannot share {a.kv_heads} key-value heads: they must be a multiple of that number."
        )
    if a.experts_per_token > a.experts:
        raise UnknownModel(
            f"a token cannot go to {a.experts_per_token} of {a.experts} experts: num_experts_per_tok must be "
            f"{a.experts} at most."
        )
    return a


@cache
def presets() -> dict[str, dict]:
    """The presets: name -> config."""
    found: dict[str, dict] = {}
    for file in sorted(PRESETS.glob("*.json")):
        found |= json.loads(file.read_text(encoding="utf-8"))["models"]
    return found


def architecture_of(model) -> Architecture:
    """The architecture of a preset ("llama-3-8b"), of a config.json or its folder, or of a config.

    Raises UnknownModel with the nearest names.
    """
    if isinstance(model, Architecture):
        return model
    if not isinstance(model, (str, Path)):
        return from_config(model)
    name = str(model).lower().replace("_", "-")
    if name == "tiny":
        return from_config(read_config(TINY))
    if name in presets():
        return from_config(presets()[name])
    path = _place(model)
    if path is not None:
        return from_config(read_config(path))
    # "Qwen/Qwen2-7b-x" is compared without its owner, and only the end of a very long name
    near = difflib.get_close_matches(name[-100:].rsplit("/", 1)[-1], [*presets(), "tiny"], n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(presets())}."
    raise UnknownModel(f"{shown(str(model))} is not a preset, and there is no such file. {hint}")


def _place(model: str | Path) -> Path | None:
    """The config.json that a path stands for; None if there is none, or if no file could have that name."""
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            return path / "config.json"
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long; ~ of an unknown user; a zero byte
        return None
