"""What a model is made of, read from its config: every weight with its name and shape, and so the number of parameters.

    architecture = find("llama-3-8b")               # or from_config(AutoConfig.from_pretrained(...)), or a config.json
    count(architecture)                             # 8030261248

Exact to the unit, with no weights and no torch. What makes counts differ from the textbook's 12 L h^2 is all here:
grouped-query attention (fewer heads for keys and values), SwiGLU (three matrices instead of two), heads tied to the
embedding, biases (Qwen-2 has them on q, k, v only, and its config does not say so), projections fused into one
(Phi-3, GPT-2), norms of queries and keys (Qwen-3), four norms a layer (Gemma-2), mixtures of experts.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import NamedTuple

PRESETS = Path(__file__).parent / "architectures"

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


class UnknownModel(ValueError):
    """No such preset, or a config of a family that the planner does not know."""


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


@cache
def count(architecture: Architecture) -> int:
    """Number of parameters; a tied head is counted once, as it is stored once."""
    return sum(weight.numel for weight in weights(architecture))


def active(architecture: Architecture) -> int:
    """Parameters that one token meets: all of a dense model, of a mixture only the experts it is routed to."""
    a = architecture
    idle = (a.experts - a.experts_per_token) * 3 * a.hidden * a.moe_intermediate if a.experts else 0
    return count(a) - idle * (a.layers - len(a.dense_layers))


def weights(architecture: Architecture) -> Iterator[Weight]:
    """Every parameter in the order of `model.named_parameters()`."""
    a = architecture
    base, layer, last = ("transformer", "h", "ln_f") if a.family == "gpt2" else ("model", "layers", "norm")
    table = "wte" if a.family == "gpt2" else "embed_tokens"
    yield Weight(f"{base}.{table}.weight", (a.vocabulary, a.hidden))
    if a.positions:
        yield Weight(f"{base}.wpe.weight", (a.positions, a.hidden))
    for index in range(a.layers):
        for weight in layer_weights(a, index):
            yield Weight(f"{base}.{layer}.{index}.{weight.name}", weight.shape)
    yield from _norm(a, f"{base}.{last}", a.hidden)
    if not a.tied:
        yield Weight("lm_head.weight", (a.vocabulary, a.hidden))


def layer_weights(architecture: Architecture, index: int = 0) -> Iterator[Weight]:
    """The parameters of block `index`, names from the block on."""
    a = architecture
    if a.family == "gpt2":
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
    """The matrices of a block that quantisation and LoRA know: all linear layers, shape (outputs, inputs)."""
    a = architecture
    names = tuple(name.rsplit(".", 1)[-1] for name in a.names.values())
    matrices = [w for w in layer_weights(a, index) if w.name.removesuffix(".weight").endswith(names)]
    matrices = [w for w in matrices if w.name.endswith(".weight") and len(w.shape) == 2]
    if a.family == "gpt2":  # Conv1D stores the transpose
        return [Weight(w.name, w.shape[::-1]) for w in matrices]
    return matrices


def _norm(a: Architecture, name: str, width: int) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (width,))
    if a.norm == "layer":
        yield Weight(f"{name}.bias", (width,))


def _linear(a: Architecture, name: str, outputs: int, inputs: int, bias: bool) -> Iterator[Weight]:
    yield Weight(f"{name}.weight", (inputs, outputs) if a.family == "gpt2" else (outputs, inputs))
    if bias:
        yield Weight(f"{name}.bias", (outputs,))


def _attention(a: Architecture) -> Iterator[Weight]:
    wide, narrow = a.heads * a.head_dim, a.kv_heads * a.head_dim
    output = _linear(a, a.names["o"], a.hidden, wide, a.output_bias)
    if a.fused_qkv:
        fused = _linear(a, a.names["qkv"], wide + 2 * narrow, a.hidden, a.attention_bias)
        # Phi-3 declares its output projection first; the order is that of the class
        yield from (*output, *fused) if a.family == "phi3" else (*fused, *output)
        return
    for key, width in (("q", wide), ("k", narrow), ("v", narrow)):
        yield from _linear(a, a.names[key], width, a.hidden, a.attention_bias)
    yield from output
    if a.qk_norm:
        yield Weight("self_attn.q_norm.weight", (a.head_dim,))
        yield Weight("self_attn.k_norm.weight", (a.head_dim,))


def _mlp(a: Architecture, index: int) -> Iterator[Weight]:
    if a.experts and index not in a.dense_layers:
        router = Weight("mlp.gate.weight", (a.experts, a.hidden))
        up = Weight("mlp.experts.gate_up_proj", (a.experts, 2 * a.moe_intermediate, a.hidden))
        down = Weight("mlp.experts.down_proj", (a.experts, a.hidden, a.moe_intermediate))
        yield from (router, up, down) if a.family == "mixtral" else (up, down, router)
        return
    if a.gated:
        parts = ["gate_up"] if a.fused_gate_up else ["gate", "up"]
        for part in parts:
            yield from _linear(a, a.names[part], a.intermediate * 2 // len(parts), a.hidden, a.mlp_bias)
    else:
        yield from _linear(a, a.names["up"], a.intermediate, a.hidden, a.mlp_bias)
    yield from _linear(a, a.names["down"], a.hidden, a.intermediate, a.mlp_bias)


def from_config(config) -> Architecture:
    """The architecture that a `transformers` config describes.

    config   a config object, or the dictionary of a config.json

    Raises UnknownModel for a family that the planner does not know, ValueError if a number is missing or impossible.
    """
    config = config if isinstance(config, Mapping) else config.to_dict()
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UnknownModel(
            f"the planner knows the families {', '.join(sorted(FAMILIES))}; this config says model_type={family!r}. "
            "If it is built like one of these, set model_type to that."
        )
    for name in ("num_attention_heads", "n_head", "hidden_size", "n_embd"):  # the others are made of these
        _whole(name, config.get(name, 1))
    try:
        return checked(Architecture(**(FAMILIES[family](config))))
    except KeyError as missing:
        raise ValueError(f"this {family} config lacks {missing}; pass the whole config.json.") from None


def _llama(config: Mapping, **more) -> dict:
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    head_dim = config.get("head_dim") or hidden // heads
    bias = bool(config.get("attention_bias", False))
    values = {
        "family": config["model_type"],
        "hidden": hidden,
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": head_dim,
        "intermediate": config["intermediate_size"],
        "vocabulary": config["vocab_size"],
        "tied": bool(config.get("tie_word_embeddings", False)),
        "attention_bias": bias,
        "output_bias": bias,
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "rotary": head_dim,
        "activation": config.get("hidden_act") or "silu",
        "attention_dropout": config.get("attention_dropout") or 0.0,
    }
    return values | more


def _qwen2(config: Mapping) -> dict:
    return _llama(config, attention_bias=True, output_bias=False)


def _phi3(config: Mapping) -> dict:
    factor = config.get("partial_rotary_factor") or 1.0
    values = _llama(config, fused_qkv=True, fused_gate_up=True, dropout=config.get("resid_pdrop") or 0.0)
    return values | {"rotary": int(values["head_dim"] * factor)}


def _gemma(config: Mapping) -> dict:
    activation = config.get("hidden_activation") or config.get("hidden_act") or "gelu_pytorch_tanh"
    tied = bool(config.get("tie_word_embeddings", True))
    values = _llama(config, norm="gemma", scaled_embedding=True, activation=activation, tied=tied)
    if config["model_type"] == "gemma":
        return values
    caps = {
        name: config.get(key, 1) is not None
        for name, key in (
            ("attention_softcap", "attn_logit_softcapping"),
            ("logit_softcap", "final_logit_softcapping"),
        )
    }
    return values | {"norms_per_layer": 4} | caps


def _mixtral(config: Mapping) -> dict:
    return _llama(
        config,
        experts=config.get("num_local_experts") or config["num_experts"],
        experts_per_token=config["num_experts_per_tok"],
        moe_intermediate=config["intermediate_size"],
    )


def _qwen3_moe(config: Mapping) -> dict:
    step, layers = config.get("decoder_sparse_step") or 1, config["num_hidden_layers"]
    dense = set(config.get("mlp_only_layers") or ()) | {i for i in range(layers) if (i + 1) % step}
    return _llama(
        config,
        qk_norm=True,
        experts=config.get("num_experts") or config["num_local_experts"],
        experts_per_token=config["num_experts_per_tok"],
        moe_intermediate=config["moe_intermediate_size"],
        dense_layers=tuple(sorted(dense)),
    )


def _gpt2(config: Mapping) -> dict:
    hidden, heads = config["n_embd"], config["n_head"]
    return {
        "family": "gpt2",
        "hidden": hidden,
        "layers": config["n_layer"],
        "heads": heads,
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate": config.get("n_inner") or 4 * hidden,
        "vocabulary": config["vocab_size"],
        "tied": bool(config.get("tie_word_embeddings", True)),
        "attention_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "gated": False,
        "norm": "layer",
        "positions": config["n_positions"],
        "fused_qkv": True,
        "activation": config.get("activation_function") or "gelu_new",
        "dropout": config.get("resid_pdrop", 0.1),
        "attention_dropout": config.get("attn_pdrop", 0.1),
    }


FAMILIES = {
    "llama": _llama,
    "mistral": _llama,
    "smollm3": _llama,
    "qwen2": _qwen2,
    "qwen3": lambda config: _llama(config, qk_norm=True),
    "qwen3_moe": _qwen3_moe,
    "phi3": _phi3,
    "gemma": _gemma,
    "gemma2": _gemma,
    "mixtral": _mixtral,
    "gpt2": _gpt2,
}


def checked(architecture: Architecture) -> Architecture:
    a = architecture
    for name in ("hidden", "layers", "heads", "kv_heads", "head_dim", "intermediate", "vocabulary"):
        _whole(name, getattr(a, name))
    if a.heads % a.kv_heads:
        raise ValueError(
            f"{a.heads} heads cannot share {a.kv_heads} key-value heads: the first must be a multiple of the second."
        )
    return a


def _whole(name: str, value) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1; the config says {value!r}.")


@cache
def presets() -> dict[str, dict]:
    """name -> config, of every preset."""
    found: dict[str, dict] = {}
    for file in sorted(PRESETS.glob("*.json")):
        found |= json.loads(file.read_text(encoding="utf-8"))["models"]
    return found


def find(model) -> Architecture:
    """The architecture of a preset ("llama-3-8b"), of a config.json or the folder that holds it, of a config.

    Raises UnknownModel with the nearest names.
    """
    if isinstance(model, Architecture):
        return model
    if not isinstance(model, (str, Path)):
        return from_config(model)
    name = str(model).lower().replace("_", "-")
    if name == "tiny":
        return from_config(json.loads((Path(__file__).parents[1] / "models/tiny/config.json").read_text()))
    if name in presets():
        return from_config(presets()[name])
    path = Path(model).expanduser()
    if path.exists():
        return from_file(path / "config.json" if path.is_dir() else path)
    near = difflib.get_close_matches(name.rsplit("/", 1)[-1], [*presets(), "tiny"], n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(presets())}."
    raise UnknownModel(f"no model {str(model)!r} among the presets, and no such file. {hint}")


def from_file(path: Path) -> Architecture:
    try:
        return from_config(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError, AttributeError) as error:
        raise UnknownModel(f"{path} is not a config.json of a model: {error}") from None
